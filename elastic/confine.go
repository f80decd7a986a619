// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// CPUConfine keeps best effort off some CPUs, so that a service that wakes finds
// one that it gets at once: what works in the kernel, or with All everything. A task
// in user mode gives its CPU up within microseconds; one that unmaps or clears memory
// in the kernel does so at the end of that, on kernels without full preemption after
// some milliseconds. And beside any of them a service that is pushed off its CPU for a
// moment may wait until the next tick of the scheduler. It sets cpuset.cpus of
// best-effort sandboxes whose owner did not.
//
// That batch work and services have cores of their own is what Heracles does (Lo
// et al., ISCA 2015), and Koordinator's suppression by cpuset, to all batch work.
// What that costs is what the kept CPUs have idle.
//
// The CPUs that are kept are first those that owners have given latency-critical
// sandboxes by cpuset.cpus, unless these are all there are; who wants to know which
// ones a service has gives it some. Others are kept by number, the highest ones,
// since the lowest usually has the machine's interrupts; threads of one core and
// caches are not considered.
//
// With All a sandbox is confined as soon as it is made, where the fleet is [Announcing],
// and otherwise at the next look.
//
// On a machine without cpusets, or with a single CPU, it does nothing.
//
// The zero value has the defaults given at each field.
type CPUConfine struct {
	All  bool          // all of best effort is confined, however much of it is in the kernel
	High float64       // share of its CPU time in the kernel above which a sandbox is confined; 0 is 0.10
	Low  float64       // share below which it may go back; 0 is 0.05
	Calm time.Duration // how long it must be below Low; 0 is 10 s
	Keep float64       // kept CPUs for each CPU that everybody else uses, rounded up; 0 is 1.25

	kept  int                      // how many CPUs are kept
	fewer time.Duration            // since when fewer would do; -1 is not at all
	below map[string]time.Duration // since when a confined sandbox is below Low
	begun bool
}

// Name is "cpu-confine".
func (*CPUConfine) Name() string { return "cpu-confine" }

// Levers is cpuset.cpus of best effort.
func (*CPUConfine) Levers() []Lever { return []Lever{{BestEffort, KnobCPUs}} }

// idleCPUs is how little of a CPU a sandbox uses that nothing is said of it.
const idleCPUs = 0.01

// Decide confines who is above High, or with All everybody, and lets go who has long been
// below Low.
func (p *CPUConfine) Decide(s *Snapshot) []Correction {
	all := s.Machine.CPUSet
	if all.Len() < 2 {
		return nil
	}
	if s.Elapsed <= 0 {
		return p.Greet(s)
	}
	rest := p.rest(s)
	below := make(map[string]time.Duration)
	var out []Correction
	for u := range s.running(BestEffort) {
		if !movable(u) {
			continue
		}
		confined := isConfined(u, all)
		share := 0.0
		if u.CPU >= idleCPUs {
			share = u.System / u.CPU
		}
		set, why := u.CPUSet, ""
		switch {
		case p.kept == 0:
			if confined {
				set, why = cgroups.DefaultSet(), "there is nobody else to protect"
			}
		case !confined && p.All:
			set, why = rest, p.always(rest)
		case !confined && share >= cmp.Or(p.High, 0.10):
			set = rest
			why = fmt.Sprintf("%.0f%% of its %.2f CPUs are in the kernel, where a service waits for it: it has CPUs %s, and the others keep %d",
				100*share, u.CPU, rest, p.kept)
		case confined && set != rest:
			set, why = rest, fmt.Sprintf("the others keep %d now: it has CPUs %s", p.kept, rest)
		case confined && !p.All && u.CPU >= idleCPUs && share < cmp.Or(p.Low, 0.05):
			since, known := p.below[u.ID]
			if !known {
				since = s.At
			}
			below[u.ID] = since
			if s.At-since >= cmp.Or(p.Calm, 10*time.Second) {
				set = cgroups.DefaultSet()
				why = fmt.Sprintf("%.0f%% of its %.2f CPUs are in the kernel, and that is little for %v", 100*share, u.CPU, s.At-since)
			}
		}
		if why == "" {
			continue
		}
		out = append(out, p.place(u, set, why))
	}
	p.below = below
	return out
}

// Greet confines who is new, with All. Whether he works in the kernel is not known yet.
func (p *CPUConfine) Greet(s *Snapshot) []Correction {
	all := s.Machine.CPUSet
	if !p.All || all.Len() < 2 {
		return nil
	}
	rest := p.rest(s)
	var out []Correction
	for u := range s.running(BestEffort) {
		if p.kept > 0 && s.isNew(u.ID) && movable(u) && !isConfined(u, all) {
			out = append(out, p.place(u, rest, p.always(rest)))
		}
	}
	return out
}

func (p *CPUConfine) place(u *Use, set cgroups.Set, why string) Correction {
	c := Correction{Policy: p.Name(), Sandbox: u.ID, Rung: Throttle, Reason: why}
	if c.Resources.CPUSet.CPUs = set; set.IsDefault() {
		c.Rung = Release
	}
	return c
}

// always is why everybody is confined.
func (p *CPUConfine) always(rest cgroups.Set) string {
	return fmt.Sprintf("the others keep %d CPUs: it has CPUs %s", p.kept, rest)
}

// movable reports whether u has cpuset.cpus, and its owner did not set it.
func movable(u *Use) bool { return !u.CPUSet.IsZero() && u.CPUSetBase.IsZero() }

func isConfined(u *Use, all cgroups.Set) bool { return !u.CPUSet.IsDefault() && !covers(u.CPUSet, all) }

// rest is what best effort has, as things are.
func (p *CPUConfine) rest(s *Snapshot) cgroups.Set {
	if !p.begun {
		p.begun, p.fewer = true, -1
	}
	given := s.given()
	p.keep(s, given.Len())
	return lowest(without(s.Machine.CPUSet, given), s.Machine.CPUSet.Len()-p.kept)
}

// given are the CPUs that owners have given latency-critical sandboxes; none if that
// leaves no other.
func (s *Snapshot) given() cgroups.Set {
	var list []int
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		if u.Class != LatencyCritical || covers(u.CPUSetBase, s.Machine.CPUSet) {
			continue
		}
		for cpu := range u.CPUSetBase.Each {
			if s.Machine.CPUSet.Contains(cpu) {
				list = append(list, cpu)
			}
		}
	}
	set := cgroups.SetOf(list...)
	if set.Len() >= s.Machine.CPUSet.Len() {
		return cgroups.Set{}
	}
	return set
}

// keep says how many CPUs are kept now, and at least as many as were given: more at
// once, fewer after a while.
func (p *CPUConfine) keep(s *Snapshot, given int) {
	ours, protected := 0.0, false
	for i := range s.Sandboxes {
		if u := &s.Sandboxes[i]; u.Class == BestEffort {
			ours += u.CPU
		} else {
			protected = true
		}
	}
	want := 0
	if n := s.Machine.CPUSet.Len(); protected {
		others := min(max(0, s.Machine.CPU-ours), float64(n))
		want = min(max(1, given, int(math.Ceil(others*cmp.Or(p.Keep, 1.25)))), n-1)
	}
	switch {
	case want >= p.kept:
		p.kept, p.fewer = want, -1
	case p.fewer < 0:
		p.fewer = s.At
	case s.At-p.fewer >= cmp.Or(p.Calm, 10*time.Second):
		p.kept, p.fewer = want, -1
	}
}

// lowest is the set of the n lowest members of s.
func lowest(s cgroups.Set, n int) cgroups.Set {
	list := make([]int, 0, n)
	for cpu := range s.Each {
		if len(list) == n {
			break
		}
		list = append(list, cpu)
	}
	return cgroups.SetOf(list...)
}

// without is the members of a that b does not have.
func without(a, b cgroups.Set) cgroups.Set {
	var list []int
	for cpu := range a.Each {
		if !b.Contains(cpu) {
			list = append(list, cpu)
		}
	}
	return cgroups.SetOf(list...)
}

// covers reports whether a has all members of b.
func covers(a, b cgroups.Set) bool {
	for cpu := range b.Each {
		if !a.Contains(cpu) {
			return false
		}
	}
	return true
}
