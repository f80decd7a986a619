// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// IOGuard keeps disks for the services: while one of them stalls for IO, the
// best-effort sandbox that moves the most bytes is limited on the device where it
// does, further and further; when nobody stalls any more the limits grow and are
// lifted in the end. It sets rbps and wbps of io.max.
//
// It lowers fast and raises slowly, as a network's congestion control does, which
// is what makes it come to rest: down by Down at each snapshot with a stall, up
// by Up at each one without, and gone once it is Lift times what was seen before.
//
// The zero value has the defaults given at each field.
type IOGuard struct {
	Stall float64 // a service's IO stall, some, above which it acts; 0 is 0.10
	Down  float64 // 0 is 0.7
	Up    float64 // 0 is 1.05
	Lift  float64 // 0 is 2
	Floor float64 // bytes a second that everybody keeps; 0 is 1 MiB

	limits map[ioKey]*ioLimit
}

type ioKey struct {
	id     string
	device cgroups.Device
}

type ioLimit struct {
	seen float64 // bytes a second before it was limited
	now  float64
	calm time.Duration // of snapshots without a stall since the last one with
}

// Name is "io-guard".
func (*IOGuard) Name() string { return "io-guard" }

// Levers is io.max of best effort.
func (*IOGuard) Levers() []Lever { return []Lever{{BestEffort, KnobIOMax}} }

// Decide lowers one limit, or raises all.
func (p *IOGuard) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 {
		return nil
	}
	if p.limits == nil {
		p.limits = make(map[ioKey]*ioLimit)
	}
	for key := range p.limits {
		if s.Find(key.id) == nil {
			delete(p.limits, key)
		}
	}
	who, stall := s.worst(func(u *Use) float64 { return u.Stalls.IO.Some })
	limit := cmp.Or(p.Stall, 0.10)
	if stall > limit {
		return p.lower(s, fmt.Sprintf("%s stalls %.0f%% of the time for IO, more than %.0f%%", who.ID, 100*stall, 100*limit), who.ID)
	}
	return p.raise(s, stall <= limit/2)
}

// lower limits whoever moves the most bytes.
func (p *IOGuard) lower(s *Snapshot, why, who string) []Correction {
	var most float64
	var at ioKey
	for u := range s.running(BestEffort) {
		for _, d := range u.IO {
			if rate := d.ReadBytes + d.WriteBytes; rate > most {
				most, at = rate, ioKey{u.ID, d.Device}
			}
		}
	}
	floor := cmp.Or(p.Floor, 1<<20)
	if most <= floor {
		return nil // it is not they
	}
	l := p.limits[at]
	if l == nil {
		l = &ioLimit{seen: most, now: most}
		p.limits[at] = l
	}
	l.calm = 0
	l.now = max(floor, min(l.now, most)*cmp.Or(p.Down, 0.7))
	c := p.correction(at, Throttle, cgroups.Bytes(uint64(l.now)))
	c.Reason = fmt.Sprintf("%s; %s moves the most there, %.1f MiB a second on %s: %.1f from now on",
		why, at.id, most/(1<<20), at.device, l.now/(1<<20))
	c.Expect = Expectation{Figure: FigureIOSome, Of: who, Most: cmp.Or(p.Stall, 0.10), Within: 10 * time.Second}
	return []Correction{c}
}

// raise gives back, after a second of calm.
func (p *IOGuard) raise(s *Snapshot, calm bool) []Correction {
	keys := slices.SortedFunc(maps.Keys(p.limits), func(a, b ioKey) int {
		return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.device.String(), b.device.String()))
	})
	var out []Correction
	for _, at := range keys {
		l := p.limits[at]
		if !calm {
			l.calm = 0
			continue
		}
		if l.calm += s.Elapsed; l.calm < time.Second {
			continue
		}
		l.now *= cmp.Or(p.Up, 1.05)
		to, word := cgroups.Bytes(uint64(l.now)), fmt.Sprintf("%.1f MiB a second", l.now/(1<<20))
		if l.now >= l.seen*cmp.Or(p.Lift, 2) {
			to, word = cgroups.Max(), "no limit"
			delete(p.limits, at)
		}
		c := p.correction(at, Release, to)
		c.Reason = fmt.Sprintf("no service has stalled for IO for %v: %s on %s", l.calm, word, at.device)
		out = append(out, c)
	}
	return out
}

func (p *IOGuard) correction(at ioKey, r Rung, rate cgroups.Limit) Correction {
	c := Correction{Policy: p.Name(), Sandbox: at.id, Rung: r}
	c.Resources.IO.Devices = []cgroups.IODevice{{Device: at.device, ReadBytes: rate, WriteBytes: rate}}
	return c
}
