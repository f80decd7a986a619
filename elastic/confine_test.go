// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"math"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// placed is a snapshot of a machine with the CPUs 0 to 7 for sandboxes.
func placed(n int, uses ...Use) *Snapshot {
	s := shot(n, uses...)
	s.Machine.CPUSet = cgroups.SetOf(0, 1, 2, 3, 4, 5, 6, 7)
	return s
}

// kernel is batch work with so much of its CPU time in the kernel.
func kernel(id string, cpu, share float64, on cgroups.Set) Use {
	return Use{ID: id, Class: BestEffort, CPU: cpu, System: cpu * share, CPUSet: on}
}

// setsOf are the cpuset.cpus that the corrections set, by sandbox.
func setsOf(t *testing.T, cs []Correction) map[string]string {
	m := make(map[string]string)
	for _, c := range cs {
		require.NoError(t, c.Validate())
		require.Equal(t, c.Rung == Release, c.Resources.CPUSet.CPUs.IsDefault(), "%v", c)
		m[c.Sandbox] = c.Resources.CPUSet.CPUs.String()
	}
	return m
}

func TestCPUConfineTable(t *testing.T) {
	open, all, some := cgroups.DefaultSet(), cgroups.SetOf(0, 1, 2, 3, 4, 5, 6, 7), cgroups.SetOf(0, 1, 2, 3, 4, 5)
	owned := kernel("a", 1, 0.5, open)
	owned.CPUSetBase = cgroups.SetOf(6)
	for name, c := range map[string]struct {
		uses []Use
		want map[string]string
	}{
		"in the kernel":           {[]Use{kernel("a", 1, 0.5, open), service(1)}, map[string]string{"a": "0-5"}},
		"in the kernel, on v1":    {[]Use{kernel("a", 1, 0.5, all), service(1)}, map[string]string{"a": "0-5"}},
		"in user mode":            {[]Use{kernel("a", 1, 0.04, open), service(1)}, map[string]string{}},
		"between the marks":       {[]Use{kernel("a", 1, 0.07, open), service(1)}, map[string]string{}},
		"between them, confined":  {[]Use{kernel("a", 1, 0.07, some), service(1)}, map[string]string{}},
		"more for others":         {[]Use{kernel("a", 1, 0.5, some), service(2)}, map[string]string{"a": "0-4"}},
		"one CPU is left":         {[]Use{kernel("a", 1, 0.5, open), service(7.5)}, map[string]string{"a": "0"}},
		"a small service has one": {[]Use{kernel("a", 1, 0.5, open), service(0.01)}, map[string]string{"a": "0-6"}},
		"hardly runs":             {[]Use{kernel("a", 0.005, 1, open), service(1)}, map[string]string{}},
		"nobody to protect":       {[]Use{kernel("a", 1, 0.5, open), kernel("b", 1, 0.5, some)}, map[string]string{"b": "default"}},
		"no cpusets":              {[]Use{kernel("a", 1, 0.5, cgroups.Set{}), service(1)}, map[string]string{}},
		"its owner has chosen":    {[]Use{owned, service(1)}, map[string]string{}},
		"a service is left alone": {[]Use{{ID: "web", CPU: 1, System: 1, CPUSet: open}}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, setsOf(t, (&CPUConfine{}).Decide(placed(1, c.uses...))))
		})
	}
	pinned := func(cpu float64, cpus ...int) Use {
		u := service(cpu)
		u.CPUSetBase = cgroups.SetOf(cpus...)
		return u
	}
	for name, c := range map[string]struct {
		uses []Use
		want map[string]string
	}{
		"everything":                        {[]Use{kernel("a", 1, 0, open), kernel("b", 0, 0, open), service(1)}, map[string]string{"a": "0-5", "b": "0-5"}},
		"and it stays":                      {[]Use{kernel("a", 1, 0, some), service(1)}, map[string]string{}},
		"what the service has":              {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0)}, map[string]string{"a": "1-7"}},
		"as much as it has":                 {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0, 3, 7)}, map[string]string{"a": "1-2,4-6"}},
		"and what the others need":          {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0), {ID: "x", CPU: 1}}, map[string]string{"a": "1-6"}},
		"the owner of a has chosen":         {[]Use{owned, pinned(0.5, 0)}, map[string]string{}},
		"what all have is nobody's":         {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0, 1, 2, 3, 4, 5, 6, 7)}, map[string]string{"a": "0-6"}},
		"what two have together, too":       {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0, 1, 2, 3), pinned(0, 4, 5, 6, 7)}, map[string]string{"a": "0-6"}},
		"what the machine has not":          {[]Use{kernel("a", 1, 0, open), pinned(0.5, 0, 9)}, map[string]string{"a": "1-7"}},
		"what standard work has counts not": {[]Use{kernel("a", 1, 0, open), {ID: "x", CPU: 1, CPUSetBase: cgroups.SetOf(0)}}, map[string]string{"a": "0-5"}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, setsOf(t, (&CPUConfine{All: true}).Decide(placed(1, c.uses...))))
		})
	}
	fresh := placed(1, kernel("a", 0, 0, open), kernel("b", 1, 0.5, some), pinned(0, 0), owned)
	fresh.Elapsed, fresh.Sandboxes[3].ID, fresh.New = 0, "c", []string{"a", "b", "c"}
	for _, p := range []*CPUConfine{{All: true}, {}} {
		want := map[string]string{}
		if p.All {
			want["a"] = "1-7"
		}
		assert.Equal(t, want, setsOf(t, p.Greet(fresh)), "who is new, and nobody else")
		first := *fresh
		first.New = nil
		assert.Equal(t, want, setsOf(t, p.Decide(&first)), "the first look knows as little")
		first.New = []string{"b"}
		assert.Empty(t, p.Greet(&first), "a may be confined by now")
	}
	fresh.Sandboxes = fresh.Sandboxes[:2]
	assert.Empty(t, (&CPUConfine{All: true}).Greet(fresh), "nobody to protect")
	assert.Equal(t, map[string]string{"a": "1-7"}, setsOf(t, (&CPUConfine{}).Decide(placed(1, kernel("a", 1, 0.5, open), pinned(0.5, 0)))),
		"what works in the kernel is kept off the service's CPUs, too")
	one := placed(1, kernel("a", 1, 0.5, open), service(1))
	one.Machine.CPUSet = cgroups.SetOf(3)
	assert.Empty(t, (&CPUConfine{}).Decide(one), "there is nothing to choose")
	assert.Empty(t, (&CPUConfine{}).Decide(shot(1, kernel("a", 1, 0.5, open), service(1))), "unknown CPUs")
}

// TestCPUConfineProperties closes the loop over batch work that is in the kernel as
// much as the signal says, beside a service that uses as many CPUs as it says.
func TestCPUConfineProperties(t *testing.T) {
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p, set, moved := &CPUConfine{}, cgroups.DefaultSet(), -100
			for i := 1; i <= rounds; i++ {
				share := 0.2 * signal(i)
				s := placed(i, kernel("a", 1, share, set), kernel("b", 1, 0, cgroups.DefaultSet()), service(3*signal(i)))
				cs := p.Decide(s)
				require.LessOrEqual(t, len(cs), 1)
				for _, c := range cs {
					require.NoError(t, c.Validate())
					require.Equal(t, "a", c.Sandbox, "user mode disturbs nobody")
					next := c.Resources.CPUSet.CPUs
					if next.IsDefault() {
						require.Less(t, share, 0.05)
						require.GreaterOrEqual(t, i-moved, 10, "not back at once")
					} else {
						require.GreaterOrEqual(t, next.Len(), 1)
						require.GreaterOrEqual(t, 8-next.Len(), min(7, int(math.Ceil(1.25*s.Sandboxes[2].CPU))), "as many as the service uses are kept")
						require.True(t, next.Contains(0) && !next.Contains(7))
					}
					set, moved = next, i
				}
				if share >= 0.10 {
					require.False(t, set.IsDefault(), "round %d: who is in the kernel is confined", i)
				}
			}
			if name == "low" {
				assert.Equal(t, -100, moved, "there was no reason")
			}
		})
	}
	// Once it is known how much the service needs at most, a service that needs
	// now more and now less moves nothing.
	p, set, moves := &CPUConfine{}, cgroups.DefaultSet(), 0
	for i := 1; i <= rounds; i++ {
		for _, c := range p.Decide(placed(i, kernel("a", 1, 0.5, set), service([]float64{0.5, 3}[i/5%2]))) {
			set = c.Resources.CPUSet.CPUs
			moves++
		}
	}
	assert.LessOrEqual(t, moves, 2)
}
