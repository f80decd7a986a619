// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MemoryGuard keeps memory for the services: when the machine runs low, or a
// service stalls for memory, it reclaims from best-effort sandboxes, then freezes
// them one after the other, and in the end has them killed. It thaws when there
// is memory again.
//
// Each rung is tried for Patience before the next. Where best effort grows so fast
// that memory would be full at the next look but one, there is no time for that:
// who grows fastest is frozen at once. The order of the victims is
// explained in each correction's reason: who grows fastest and, among those that
// do not grow, who is largest (as oomd's kill_by_memory_growth and _size). What
// is frozen first is killed first.
//
// The zero value has the defaults given at each field.
type MemoryGuard struct {
	Low      float64       // share of memory that is free, below which it acts; 0 is 0.10
	High     float64       // share that is free, above which it gives back; 0 is 0.15
	Stall    float64       // a service's memory stall, some, above which it acts; 0 is 0.10
	Patience time.Duration // 0 is 5 s
	Calm     time.Duration // how long all must be well before a thaw; 0 is 10 s

	// NoKill never asks for a kill.
	NoKill bool

	short time.Duration // since when it runs short; -1 is not at all
	well  time.Duration // since when all is well; -1 is not at all
	acted time.Duration // when the last step was
	begun bool

	frozen []string // by us, in order
}

// Name is "memory-guard".
func (*MemoryGuard) Name() string { return "memory-guard" }

// Levers is freezing and killing of best effort.
func (*MemoryGuard) Levers() []Lever {
	return []Lever{{BestEffort, KnobFreeze}, {BestEffort, KnobKill}}
}

// Decide takes at most one step up, or one down.
func (p *MemoryGuard) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 || s.Machine.Memory == 0 {
		return nil
	}
	if !p.begun {
		p.begun, p.short, p.well, p.acted = true, -1, -1, -1
	}
	p.forget(s)
	free := float64(s.Machine.Free) / float64(s.Machine.Memory)
	who, stall := s.worst(func(u *Use) float64 { return u.Stalls.Memory.Some })
	low, limit := cmp.Or(p.Low, 0.10), cmp.Or(p.Stall, 0.10)
	why, urgent := "", p.fills(s)
	switch {
	case free < low:
		why = fmt.Sprintf("%.1f%% of the memory is free, less than %.0f%%", 100*free, 100*low)
	case p.fills(s):
		why = fmt.Sprintf("best effort would fill the %d MiB that are free before the next look but one", s.Machine.Free>>20)
	case stall > limit:
		why = fmt.Sprintf("%s stalls %.0f%% of the time for memory, more than %.0f%%", who.ID, 100*stall, 100*limit)
	}
	if why != "" {
		if p.well = -1; p.short < 0 {
			p.short = s.At
		}
		return p.up(s, why, urgent)
	}
	p.short = -1
	if free < cmp.Or(p.High, 0.15) || stall > limit/2 {
		p.well = -1
		return nil
	}
	if p.well < 0 {
		p.well = s.At
	}
	return p.down(s)
}

// fills reports whether memory is full at the next look but one, if best effort
// grows as it does.
func (p *MemoryGuard) fills(s *Snapshot) bool {
	growth := 0.0
	for u := range s.running(BestEffort) {
		growth += max(0, u.Growth)
	}
	return growth > 0 && 2*growth*s.Elapsed.Seconds() >= float64(s.Machine.Free)
}

// forget drops from the list of frozen ones those that are frozen no more, as the
// snapshot says.
func (p *MemoryGuard) forget(s *Snapshot) {
	p.frozen = slices.DeleteFunc(p.frozen, func(id string) bool {
		u := s.Find(id)
		return u == nil || !u.Frozen && p.acted != s.At-s.Elapsed
	})
}

// up takes the next step against the next victim; if it is urgent, the one that
// stops it.
func (p *MemoryGuard) up(s *Snapshot, why string, urgent bool) []Correction {
	patience := cmp.Or(p.Patience, 5*time.Second)
	if !urgent && p.acted >= 0 && s.At-p.acted < patience && s.At != p.short {
		return nil
	}
	victims := victims(s)
	need := p.need(s)
	act := func(u *Use, rung Rung, bytes uint64, reason string) []Correction {
		p.acted = s.At
		c := Correction{Policy: p.Name(), Sandbox: u.ID, Rung: rung, Bytes: bytes, Reason: why + "; " + reason}
		switch rung {
		case Freeze:
			p.frozen = append(p.frozen, u.ID)
			c.Expect = Expectation{Figure: FigureFrozen, Of: u.ID, Least: 1, Within: patience}
		case Reclaim, Kill:
			c.Expect = Expectation{
				Figure: FigureMachineFree, Least: float64(s.Machine.Free + bytes/2), Within: patience,
			}
		case Release, Throttle:
		}
		return []Correction{c}
	}
	// The first answer takes back what is cold, from whoever has the most of
	// it; it is tried again as long as somebody has much.
	if p.short == s.At && !urgent {
		if u := largest(s); u != nil {
			bytes := min(need, u.Memory/4)
			if bytes -= bytes % pageSize; bytes > 0 {
				return act(u, Reclaim, bytes, fmt.Sprintf("%s has the most, %d MiB", u.ID, u.Memory>>20))
			}
		}
	}
	if len(victims) > 0 {
		u := victims[0]
		return act(u, Freeze, 0, order(u, len(victims)))
	}
	if p.NoKill || len(p.frozen) == 0 {
		return nil
	}
	u := s.Find(p.frozen[0])
	if u == nil || !u.Frozen {
		return nil
	}
	p.frozen = p.frozen[1:]
	return act(u, Kill, 0, fmt.Sprintf("%s was frozen first, and freezing did not help; it holds %d MiB", u.ID, u.Memory>>20))
}

// down thaws the one that was frozen last.
func (p *MemoryGuard) down(s *Snapshot) []Correction {
	calm := cmp.Or(p.Calm, 10*time.Second)
	if len(p.frozen) == 0 || s.At-p.well < calm || s.At-p.acted < calm {
		return nil
	}
	last := len(p.frozen) - 1
	id := p.frozen[last]
	p.frozen = p.frozen[:last]
	p.acted = s.At
	return []Correction{{
		Policy: p.Name(), Sandbox: id, Rung: Release,
		Reason: fmt.Sprintf("memory has been enough for %v: %d of %d MiB are free",
			s.At-p.well, s.Machine.Free>>20, s.Machine.Memory>>20),
		Expect: Expectation{Figure: FigureFrozen, Of: id, Most: 0, Within: calm},
	}}
}

// need is how many bytes are missing to where all is well.
func (p *MemoryGuard) need(s *Snapshot) uint64 {
	want := uint64(cmp.Or(p.High, 0.15) * float64(s.Machine.Memory))
	if want <= s.Machine.Free {
		return s.Machine.Memory / 100
	}
	return want - s.Machine.Free
}

// victims are the best-effort sandboxes that run, the next one first.
func victims(s *Snapshot) []*Use {
	list := slices.Collect(s.running(BestEffort))
	slices.SortStableFunc(list, func(a, b *Use) int {
		return cmp.Or(
			-cmp.Compare(max(a.Growth, 0), max(b.Growth, 0)),
			-cmp.Compare(a.Memory, b.Memory),
			strings.Compare(a.ID, b.ID))
	})
	return list
}

// largest is the best-effort sandbox, frozen or not, that has the most memory.
func largest(s *Snapshot) *Use {
	var most *Use
	for i := range s.Sandboxes {
		if u := &s.Sandboxes[i]; u.Class == BestEffort && (most == nil || u.Memory > most.Memory) {
			most = u
		}
	}
	return most
}

func order(u *Use, of int) string {
	if u.Growth > 0 {
		return fmt.Sprintf("of %d that may be frozen %s grows fastest, by %.1f MiB a second", of, u.ID, u.Growth/(1<<20))
	}
	return fmt.Sprintf("of %d that may be frozen none grows, and %s is the largest, with %d MiB", of, u.ID, u.Memory>>20)
}
