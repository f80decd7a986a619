// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// randomResources names some knobs with some values, all valid. Few values, so
// that updates meet what they wrote before.
type randomResources struct {
	*rand.Rand
	v int
}

func (r randomResources) some() bool { return r.IntN(3) == 0 }

func (r randomResources) limit(unit uint64) Limit {
	switch r.IntN(6) {
	case 0:
		return Max()
	case 1:
		return Default()
	default:
		return Count(unit * (1 + r.Uint64N(8)))
	}
}

func (r randomResources) weight() Weight {
	if r.some() {
		return DefaultWeight()
	}
	return WeightOf([]uint16{1, 2, 99, 100, 101, 500, 10000}[r.IntN(7)])
}

func (r randomResources) cpu() (c CPU) {
	if r.some() {
		c.Idle = SwitchOf(r.some())
	}
	if c.Idle != On && r.some() {
		c.Weight = r.weight()
	}
	if r.some() {
		quota, period := time.Duration(5+5*r.IntN(4))*time.Millisecond, time.Duration(10+10*r.IntN(4))*time.Millisecond
		c.Max = []Bandwidth{NoQuota(), DefaultBandwidth(), Quota(quota, period), Quota(2*quota, 2*period)}[r.IntN(4)]
	}
	if r.some() {
		most := 40
		if q, _, ok := c.Max.Value(); ok {
			most = int(q / time.Millisecond)
		}
		c.Burst = DurationOf(time.Duration(r.IntN(most+1)) * time.Millisecond)
	}
	return c
}

func (r randomResources) memory() (m Memory) {
	for _, k := range []*Limit{&m.Max, &m.Swap} {
		if r.some() {
			*k = r.limit(1 << 20)
		}
	}
	if r.v == 1 {
		return m
	}
	for _, k := range []*Limit{&m.High, &m.Low, &m.Min, &m.SwapHigh} {
		if r.some() {
			*k = r.limit(1 << 20)
		}
	}
	if r.some() {
		m.OOMGroup = SwitchOf(r.some())
	}
	return m
}

func (r randomResources) io() (k IO) {
	if r.some() {
		k.Priority = IOPriorityNoChange + IOPriority(r.IntN(5))
	}
	if r.some() {
		k.Weight = r.weight()
	}
	for minor := range uint32(2) {
		if !r.some() {
			continue
		}
		d := IODevice{Device: Device{8, minor * 16}}
		for _, l := range []*Limit{&d.ReadBytes, &d.WriteBytes, &d.ReadOps, &d.WriteOps} {
			if r.some() {
				*l = r.limit(1 << 20)
			}
		}
		if r.some() {
			d.Weight = r.weight()
		}
		if r.v == 2 && r.some() {
			d.Latency = DurationOf(time.Duration(r.IntN(3)) * time.Millisecond)
		}
		k.Devices = append(k.Devices, d)
	}
	return k
}

func (r randomResources) resources() (res Resources) {
	res.CPU, res.Memory, res.IO = r.cpu(), r.memory(), r.io()
	if r.some() {
		res.PIDs.Max = r.limit(10)
	}
	if r.some() {
		res.CPUSet.CPUs = []Set{SetOf(0, 1), SetOf(2), DefaultSet()}[r.IntN(3)]
	}
	if r.v == 2 && r.some() {
		res.CPUSet.Partition = PartitionMember + Partition(r.IntN(3))
	}
	if r.some() {
		res.HugeTLB = []HugeTLB{{PageSize: 2 << 20, Max: r.limit(1 << 20 * 2), Reserved: r.limit(2 << 20)}}
	}
	if r.some() {
		res.Misc = []Misc{{Name: "sev", Max: r.limit(1)}}
	}
	if r.some() {
		res.RDMA = []RDMA{{Device: "mlx5_0", Handles: r.limit(1)}}
	}
	if r.some() {
		rules := []DeviceRule{
			{Type: CharDevice, Major: 1, Minor: 3, Access: deviceAll},
			{Type: BlockDevice, Major: 8, AnyMinor: true, Access: DeviceRead},
			{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead},
			{Type: CharDevice, AnyMajor: true, AnyMinor: true, Access: DeviceMknod},
		}
		r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		res.Devices = AllowDevices(rules[:r.IntN(len(rules)+1)]...)
		if r.some() {
			res.Devices = AllDevices()
		}
	}
	return res
}

// TestPlanRandomWalk updates a group again and again. Each plan must go through
// by the kernel's rules, leave nothing to change, and touch only what is named.
// Then each of its writes is made to fail, once without and once after taking
// effect, and everything must be as before.
func TestPlanRandomWalk(t *testing.T) {
	for _, version := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) { // shrinks take time
			r := randomResources{rand.New(rand.NewPCG(1, uint64(version))), version}
			f := newFake(t, version)
			f.top = map[string]string{"io.cost.qos": "8:0 enable=1"}
			var updates, refused, failed, faults int
			rounds := 3000
			if testutil.Emulated() {
				rounds /= 20
			}
			for range rounds {
				f.anon, f.cache = r.Uint64N(1<<21), r.Uint64N(1<<20)
				// A usage above the limit cannot be.
				name := map[int]string{1: limitV1, 2: maxFile}[version]
				if limit := f.amount(name); f.anon+f.cache > limit {
					f.anon, f.cache = limit/2, limit/4
				}
				want := r.resources()
				require.NoError(t, want.Validate())
				faults += walkFaults(t, f, want)
				before := f.state()
				changes, err := planOf(f, want)
				if err != nil {
					refused++
					continue
				}
				if err = apply(t.Context(), changes); err != nil {
					// Not every group may become a partition, or shrink.
					var undone *UpdateError
					require.ErrorAs(t, err, &undone)
					require.NoError(t, undone.Undo)
					require.Contains(t, []string{"cpuset.cpus", partitionFile, limitV1, maxFile, quotaV1, periodV1}, undone.Failed.File, "%v\n%s", err, Plan{Changes: changes})
					require.Equal(t, before, f.state(), "%v", err)
					failed++
					continue
				}
				updates++
				again, err := planOf(f, want)
				require.NoError(t, err)
				require.Empty(t, again, "a second time there is something to do for %+v", want)
				now, err := readResources(f, func(Controller) bool { return true })
				require.NoError(t, err)
				if version == 2 {
					now.Devices = Devices{} // unreadable
				}
				same, err := planOf(f, now)
				require.NoError(t, err)
				require.Empty(t, same, "what was read is not what is")
				if t.Failed() {
					t.Fatalf("%+v\n%s", want, Plan{Changes: changes})
				}
			}
			t.Logf("%d updates, %d refused, %d failed, %d faults", updates, refused, failed, faults)
			assert.Greater(t, updates, rounds/2)
			assert.Greater(t, faults, 5*rounds)
		})
	}
}

// walkFaults lets each write of the update fail and compares.
func walkFaults(t *testing.T, f *fakeTree, want Resources) int {
	once := f.clone()
	changes, err := planOf(once, want)
	if err != nil || apply(t.Context(), changes) != nil {
		return 0 // fails by itself
	}
	n, before := 0, f.state()
	for i := range once.writes {
		for _, takes := range []bool{false, true} {
			g := f.clone()
			changes, err := planOf(g, want)
			require.NoError(t, err)
			g.fault = func(write int, _ string) (error, bool) {
				if write == i {
					return errInjected, takes
				}
				return nil, false
			}
			err = apply(t.Context(), changes)
			var u *UpdateError
			require.ErrorAs(t, err, &u)
			require.ErrorIs(t, err, errInjected)
			require.NoError(t, u.Undo, "%s", Plan{Changes: changes})
			if !maps.Equal(before, g.state()) { // which is much cheaper
				require.Equal(t, before, g.state(), "fault %d (takes effect: %t)\n%s", i, takes, Plan{Changes: changes})
			}
			require.Equal(t, len(changes), len(u.Applied)+1+len(u.Pending))
			require.Len(t, u.Undone, len(u.Applied))
			n++
		}
	}
	return n
}
