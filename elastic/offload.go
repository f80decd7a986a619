// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"time"
)

// Offload takes memory from sandboxes that do not miss it: what was not touched
// for long goes to swap, or, for file pages, away. A sandbox whose memory stalls
// grow is left alone, so that the pressure itself says how much is cold.
//
// The step is that of TMO (Weiner et al., ASPLOS 2022): every Period, Ratio of
// what the sandbox uses, less in proportion as its memory stall nears Stall, and
// nothing from there on. It never goes below what the sandbox is promised.
//
// The zero value has the defaults given at each field, which are TMO's: cautious
// enough for services, and slow: a tenth of cold memory takes 20 minutes.
type Offload struct {
	Classes []Class       // whose memory; nil is standard and best effort
	Ratio   float64       // 0 is 0.0005
	Stall   float64       // share of the time; 0 is 0.001
	Period  time.Duration // 0 is 6 s

	// Refault is the share of what was taken that may come back at once: a
	// sandbox with more gets a pause of ten periods. 0 is 0.01, as Katalyst's.
	Refault float64

	next  map[string]time.Duration // when each sandbox's turn is
	taken map[string]uint64        // what was last taken from each, until it is judged
}

// Name is "offload".
func (*Offload) Name() string { return "offload" }

// Levers is none: what is reclaimed may be had back.
func (*Offload) Levers() []Lever { return nil }

// Decide takes a step for each sandbox whose turn it is.
func (p *Offload) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 {
		return nil
	}
	classes := p.Classes
	if classes == nil {
		classes = []Class{Standard, BestEffort}
	}
	period := cmp.Or(p.Period, 6*time.Second)
	next, taken := make(map[string]time.Duration), make(map[string]uint64)
	var out []Correction
	for _, class := range classes {
		for u := range s.running(class) {
			due, known := p.next[u.ID]
			back := uint64(u.Refaults * s.Elapsed.Seconds() * pageSize)
			switch was := p.taken[u.ID]; {
			case was > 0 && float64(back) > cmp.Or(p.Refault, 0.01)*float64(was)+pageSize:
				due = s.At + 10*period
			case !known:
				due = s.At + period // a first look at what is normal for it
			}
			if s.At < due {
				next[u.ID] = due
				continue
			}
			next[u.ID] = s.At + period
			bytes := p.step(s, u)
			if bytes == 0 {
				continue
			}
			taken[u.ID] = bytes
			out = append(out, Correction{
				Policy: p.Name(), Sandbox: u.ID, Rung: Reclaim, Bytes: bytes,
				Reason: fmt.Sprintf("it stalls %.3f%% of the time for its %d MiB, less than %.3f%%",
					100*u.Stalls.Memory.Some, u.Memory>>20, 100*cmp.Or(p.Stall, 0.001)),
				Expect: Expectation{
					Figure: FigureMemorySome, Of: u.ID, Most: cmp.Or(p.Stall, 0.001), Within: period,
				},
			})
		}
	}
	p.next, p.taken = next, taken
	return out
}

// pageSize is what the kernel counts refaults in, on most machines; where pages
// are larger the count is too low, and the stall says the rest.
const pageSize = 4096

// step is how many bytes may be taken from u now.
func (p *Offload) step(s *Snapshot, u *Use) uint64 {
	swap := s.Machine.SwapFree > 0
	have := u.Memory
	if !swap {
		have = min(have, u.File)
	}
	if u.Memory <= u.MemoryMin || have == 0 {
		return 0
	}
	calm := 1 - u.Stalls.Memory.Some/cmp.Or(p.Stall, 0.001)
	if calm <= 0 {
		return 0
	}
	bytes := uint64(float64(u.Memory) * cmp.Or(p.Ratio, 0.0005) * calm)
	bytes = min(bytes, have, u.Memory-u.MemoryMin)
	return bytes - bytes%pageSize
}
