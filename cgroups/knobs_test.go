// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKnobs splits resources into knobs, of which each is one, and makes them
// again of these.
func TestKnobs(t *testing.T) {
	r := everything()
	r.Memory.OOMGroup, r.CPU.Idle, r.CPUSet.Partition = On, Off, PartitionRoot
	var names []string
	var all Resources
	for name, alone := range r.Knobs {
		assert.NotContains(t, names, name)
		names = append(names, name)
		all = all.Merge(alone)
		assert.NotEmpty(t, alone.text(), name)
		n := 0
		for again := range alone.Knobs {
			assert.Equal(t, name, again)
			n++
		}
		assert.Equal(t, 1, n, name)
		assert.True(t, alone.Equal(r.Pick(name)), name)
		assert.True(t, r.Without(name).Pick(name).IsZero(), name)
		assert.True(t, r.Equal(r.Without(name).Merge(alone)), name)
	}
	assert.True(t, r.Equal(all), "%v", names)
	assert.Equal(t, names, r.Names())
	assert.Equal(t, r.Controllers().List(), slices.Sorted(slices.Values(r.Controllers().List())))
	assert.True(t, Resources{}.Pick(names...).IsZero())
	for range (Resources{}).Knobs {
		t.Error("nothing has no knob")
	}
	for range 100 { // any part and the rest are the whole
		some := slices.DeleteFunc(slices.Clone(names), func(string) bool { return rand.IntN(2) == 0 })
		require.True(t, r.Equal(r.Pick(some...).Merge(r.Without(some...))))
	}
}

func TestIsKnob(t *testing.T) {
	for _, name := range []string{
		"cpu.max", "cpu.cfs_quota_us", "memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "io.max", "io.bfq.weight",
		"blkio.throttle.read_bps_device", "pids.max", "hugetlb.2MB.rsvd.max", "rdma.max", "misc.max", "cpuset.cpus", "devices.allow", "cpu.weight",
	} {
		assert.True(t, IsKnob(name), name)
	}
	for _, name := range []string{
		"", "tasks", "cgroup.procs", "cgroup.events", "cgroup.freeze", "memory.events", "memory.events.local", "pids.events", "memory.pressure",
		"cpu.pressure", "memory.reclaim", "memory.force_empty", "memory.stat", "memory.current", "memory.peak", "memory.memsw.failcnt",
		"memory.pressure_level", "memory.usage_in_bytes", "freezer.state", "hugetlb.2MB.events", "notify_on_release",
	} {
		assert.False(t, IsKnob(name), name)
	}
}

func FuzzParsePageSize(f *testing.F) {
	for _, s := range []string{"2MB", "1GB", "64KB", "3MB", "", "2", "02MB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		size, err := ParsePageSize(name)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, size)
			return
		}
		require.Equal(t, name, PageSizeName(size))
	})
}

func TestDriftString(t *testing.T) {
	assert.Equal(t, `pids.max: "7" in /p, where "5" was set`, Drift{Knob: "pids.max", Path: "/p", Wanted: "5", Found: "7"}.String())
	assert.Equal(t, `cpu.max: "10ms/100ms" was set, and cannot be now: why`,
		Drift{Knob: "cpu.max", Wanted: Quota(10*time.Millisecond, 100*time.Millisecond).String(), Reason: "why"}.String())
}
