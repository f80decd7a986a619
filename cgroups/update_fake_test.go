// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var layouts = []struct {
	name string
	cgroupstest.Layout
}{{"v1", cgroupstest.V1}, {"v2", cgroupstest.V2}, {"hybrid", cgroupstest.Hybrid}}

// onEach runs f on a fake of each layout, with a group that has a process.
func onEach(t *testing.T, f func(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup)) {
	testutil.Require(t, testutil.Real) // a fake is the same on every kernel
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			testutil.CheckLeaks(t)
			fake := cgroupstest.New(t, l.Layout)
			f(t, fake, group(t, fake, "web"))
		})
	}
}

// group makes a group with a process.
func group(t *testing.T, fake *cgroupstest.Fake, path string) *cgroups.Cgroup {
	t.Helper()
	c, err := fake.Root().Create(path, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	fake.Start(path)
	fake.Writes()
	return c
}

// walk makes up limits that a kernel of the layout can take.
type walk struct {
	*rand.Rand
	v2 bool
}

func (w walk) some() bool { return w.IntN(3) == 0 }

func (w walk) limit(unit uint64) cgroups.Limit {
	switch w.IntN(6) {
	case 0:
		return cgroups.Max()
	case 1:
		return cgroups.Default()
	}
	return cgroups.Count(unit * (1 + w.Uint64N(8)))
}

func (w walk) resources() (r cgroups.Resources) {
	if w.some() {
		quota := time.Duration(5+5*w.IntN(4)) * time.Millisecond
		r.CPU.Max = []cgroups.Bandwidth{cgroups.NoQuota(), cgroups.DefaultBandwidth(), cgroups.Quota(quota, 2*quota), cgroups.Quota(2*quota, quota)}[w.IntN(4)]
	}
	if w.some() {
		r.CPU.Burst = cgroups.DurationOf(time.Duration(w.IntN(6)) * time.Millisecond)
	}
	if w.some() {
		r.CPU.Idle = cgroups.SwitchOf(w.some())
	}
	if r.CPU.Idle != cgroups.On && w.some() {
		r.CPU.Weight = cgroups.WeightOf([]uint16{1, 99, 100, 500, 10000}[w.IntN(5)])
	}
	if w.some() {
		r.CPUSet.CPUs = []cgroups.Set{cgroups.SetOf(0, 1), cgroups.SetOf(2)}[w.IntN(2)]
	}
	if w.some() {
		r.PIDs.Max = w.limit(10)
	}
	if w.some() {
		r.Memory.Max = w.limit(1 << 20)
	}
	if w.some() {
		r.Memory.Swap = w.limit(1 << 20)
	}
	if w.v2 {
		for _, k := range []*cgroups.Limit{&r.Memory.High, &r.Memory.Low, &r.Memory.Min} {
			if w.some() {
				*k = w.limit(1 << 20)
			}
		}
		if w.some() {
			r.Memory.OOMGroup = cgroups.SwitchOf(w.some())
		}
	}
	if w.some() {
		r.IO.Devices = []cgroups.IODevice{{
			Device: cgroups.Device{Major: 8, Minor: 16 * w.Uint32N(2)}, ReadBytes: w.limit(1 << 20), WriteOps: w.limit(10),
		}}
	}
	if w.some() {
		r.Devices = []cgroups.Devices{
			cgroups.AllDevices(), cgroups.AllowDevices(), cgroups.DefaultDevices(),
			cgroups.AllowDevices(cgroups.DeviceRule{Type: cgroups.CharDevice, Major: 1, Minor: 3, Access: cgroups.DeviceRead}),
		}[w.IntN(4)]
	}
	return r
}

// TestUpdateAtomic goes from limits to limits through the whole of Update on a
// fake kernel. At each step every write is made to fail, once without and once
// after taking effect, and the machine must be as it was; then the update goes
// through, changes only what differs, and has nothing left to do.
func TestUpdateAtomic(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			fake := cgroupstest.New(t, l.Layout)
			c := group(t, fake, "web")
			// A v2 group with processes cannot go back to no CPUs of its own: ENOSPC.
			_, err := c.Update(t.Context(), cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1, 2)}})
			require.NoError(t, err)
			w := walk{rand.New(rand.NewPCG(7, uint64(l.Layout))), l.Layout == cgroupstest.V2}
			rounds, plans, refused := 800, 0, 0
			for range rounds {
				fake.SetMemory("web", cgroupstest.Usage{})
				want := w.resources()
				if want.Validate() != nil {
					continue
				}
				p, err := c.Plan(want)
				if err != nil {
					refused++ // such as a burst above the quota that there is
					continue
				}
				before := fake.Tree()
				for at := range len(p.Changes) {
					for _, takes := range []bool{false, true} {
						x := fake.Fail("*", syscall.EIO).At(at + 1)
						if takes {
							x.TakesEffect()
						}
						_, err := c.Update(t.Context(), want)
						x.Lift()
						var u *cgroups.UpdateError
						require.ErrorAs(t, err, &u, "%s", p)
						require.NoError(t, u.Undo, "%s", p)
						require.ErrorIs(t, err, syscall.EIO)
						require.Equal(t, 1, x.Struck())
						if now := fake.Tree(); now != before { // which is much cheaper
							require.Equal(t, before, now, "write %d (takes effect: %t) of\n%s", at+1, takes, p)
						}
						plans++
					}
				}
				done, err := c.Update(t.Context(), want)
				require.NoError(t, err, "%s", p)
				require.Len(t, done.Changes, len(p.Changes))
				fake.Writes()
				again, err := c.Update(t.Context(), want)
				require.NoError(t, err)
				require.Empty(t, again.Changes, "after\n%s", p)
				require.Empty(t, fake.Writes(), "an update that changes nothing")
			}
			t.Logf("%d plans with a fault, %d refused", plans, refused)
			assert.Greater(t, plans, 4*rounds)
			assert.Less(t, refused, rounds/2)
		})
	}
}
