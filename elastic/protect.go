// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// MemoryProtect has the kernel take memory from everybody else first: memory.low of
// each latency-critical sandbox follows what it works with. That is its usage without
// the page cache that nobody has touched lately, which the kubelet calls the working
// set, and never more than Share of the machine's memory for all of them, in
// proportion; so what is left to reclaim from is never nothing. memory.low is no
// guarantee: where nobody else has anything, the kernel takes it all the same, and
// it kills as it would without. What an owner has asked for itself, as memory.low or
// memory.min, is left alone.
//
// It rises at once, and falls only when the sandbox neither stalls for memory nor
// reads anything again that was taken from it: a service that was squeezed must not
// lose its protection for having become smaller.
//
// v1 has no such knob, and nothing is done there. Its memory.soft_limit_in_bytes is
// something else: from the groups above theirs the kernel takes as much as it can at
// once, which stalls those that are a little above it, and hardly protects those
// below. Linux 6.12 calls it deprecated.
//
// What is protected, [Offload] does not take from either.
//
// The zero value has the defaults given at each field.
type MemoryProtect struct {
	Share float64 // of the machine's memory, for all protected sandboxes; 0 is 0.8
	Step  float64 // it is changed if it is off by more than this share; 0 is 0.10
	Least uint64  // and by more than so many bytes; 0 is 16 MiB
}

// Name is "memory-protect".
func (*MemoryProtect) Name() string { return "memory-protect" }

// Levers is memory.low of latency-critical sandboxes.
func (*MemoryProtect) Levers() []Lever { return []Lever{{LatencyCritical, KnobMemoryLow}} }

// Decide has memory.low follow.
func (p *MemoryProtect) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 || s.Machine.Memory == 0 {
		return nil
	}
	all, owners := 0.0, 0.0
	for i := range s.Sandboxes {
		if u := &s.Sandboxes[i]; u.Class == LatencyCritical {
			if own, asked := u.MemoryLowBase.Value(); asked {
				owners += float64(min(own, u.Memory))
			} else if !u.MemoryLow.IsZero() && u.MemoryLowBase.IsZero() {
				all += float64(works(u))
			}
		}
	}
	fraction, limit := 1.0, max(0, cmp.Or(p.Share, 0.8)*float64(s.Machine.Memory)-owners)
	if all > limit {
		fraction = limit / all
	}
	var out []Correction
	for u := range s.running(LatencyCritical) {
		if u.MemoryLow.IsZero() || !u.MemoryLowBase.IsZero() {
			continue
		}
		if c, changed := p.follow(u, fraction); changed {
			out = append(out, c)
		}
	}
	return out
}

// works is what a sandbox works with.
func works(u *Use) uint64 { return u.Memory - min(u.Cold, u.Memory) }

// follow is the correction that makes u's memory.low this fraction of what it works
// with.
func (p *MemoryProtect) follow(u *Use, fraction float64) (c Correction, changed bool) {
	now, known := u.MemoryLow.Value()
	if !known {
		return c, false // somebody has said max, to the kernel itself
	}
	want := uint64(float64(works(u)) * fraction)
	want -= want % pageSize
	off := max(want, now) - min(want, now)
	if off <= max(uint64(cmp.Or(p.Step, 0.10)*float64(max(want, now))), cmp.Or(p.Least, 16<<20)) {
		return c, false
	}
	c = Correction{
		Policy: p.Name(), Sandbox: u.ID, Rung: Throttle,
		Resources: cgroups.Resources{Memory: cgroups.Memory{Low: cgroups.Bytes(want)}},
		Reason: fmt.Sprintf("it works with %d of the %d MiB that it has: %d MiB are protected, instead of %d",
			works(u)>>20, u.Memory>>20, want>>20, now>>20),
		Expect: Expectation{Figure: FigureMemorySome, Of: u.ID, Most: 0.10, Within: 10 * time.Second},
	}
	if fraction < 1 {
		c.Reason += fmt.Sprintf("; that is %.0f%%, since all together work with more than can be protected", 100*fraction)
	}
	if want < now {
		if fraction == 1 && (u.Refaults > 0 || u.Stalls.Memory.Some > 0) {
			return c, false
		}
		c.Rung, c.Expect = Release, Expectation{}
	}
	return c, true
}
