// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// meddle writes to the file of a knob as somebody else would.
func meddle(t *testing.T, c *Cgroup, ctl Controller, v1, v2, data string) {
	t.Helper()
	n := c.node(ctl)
	require.NotNil(t, n)
	file := v2
	if !n.in.v2 {
		file = v1
	}
	require.NoError(t, os.WriteFile(n.dir.Join(file), []byte(data), 0))
}

func TestDrift(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	c := newGroup(t, openRoot(t), 0)
	ctx := context.Background()
	drift := func(want Resources) []string {
		t.Helper()
		all, err := c.Drift(want)
		require.NoError(t, err)
		var words []string
		for _, d := range all {
			words = append(words, d.Knob+" "+d.Found)
			assert.NotEmpty(t, d.Wanted)
			assert.Equal(t, d.Reason == "", d.Path != "", "%s", d)
		}
		return words
	}
	want := supported(t, c, Resources{
		CPU: CPU{Weight: WeightOf(77), Max: CPUs(0.5)}, PIDs: PIDs{Max: Count(50)}, CPUSet: CPUSet{CPUs: DefaultSet()},
		Memory: Memory{Max: Bytes(64<<20 + 5), Swap: Max()}, Devices: DefaultDevices(),
	})
	_, err := c.Update(ctx, want)
	require.NoError(t, err)
	assert.Empty(t, drift(want), "what was set, rounded as the kernel does")
	assert.Empty(t, drift(Resources{}))

	if c.node(ControllerPIDs) != nil {
		meddle(t, c, ControllerPIDs, "pids.max", "pids.max", "60")
		assert.Equal(t, []string{"pids.max 60"}, drift(want))
		meddle(t, c, ControllerPIDs, "pids.max", "pids.max", "50")
		assert.Empty(t, drift(want))
	}
	if c.node(ControllerCPU) != nil {
		// Moving one of two files is enough; what stands in the way of an
		// update is drift too.
		if c.node(ControllerCPU).in.v2 {
			meddle(t, c, ControllerCPU, "", "cpu.max", "20000 50000")
			assert.Equal(t, []string{"cpu.max 20000 50000"}, drift(want))
		} else {
			meddle(t, c, ControllerCPU, "cpu.cfs_quota_us", "", "20000")
			assert.Equal(t, []string{"cpu.max 20000"}, drift(want))
		}
		_, err = c.Update(ctx, Resources{CPU: want.CPU})
		require.NoError(t, err)
		if r, err := c.Resources(); err == nil && r.CPU.Idle != Keep {
			meddle(t, c, ControllerCPU, "cpu.idle", "cpu.idle", "1")
			all, err := c.Drift(want)
			require.NoError(t, err)
			require.Len(t, all, 1)
			assert.Equal(t, "cpu.weight", all[0].Knob)
			assert.Contains(t, all[0].Reason, "idle")
			assert.Empty(t, drift(Resources{CPU: CPU{Idle: On, Weight: WeightOf(77)}}), "an idle group has no weight that could drift")
			meddle(t, c, ControllerCPU, "cpu.idle", "cpu.idle", "0")
			_, err = c.Update(ctx, want)
			require.NoError(t, err)
		}
	}
	if c.node(ControllerMemory) != nil {
		meddle(t, c, ControllerMemory, "memory.limit_in_bytes", "memory.max", "33554432")
		assert.Contains(t, strings.Join(drift(want), ","), "memory.max 33554432")
	}
	require.NoError(t, c.Remove(ctx))
	_, err = c.Drift(want)
	require.ErrorIs(t, err, ErrGone)
}

func TestUnplugged(t *testing.T) {
	here := newMachineFile("/sys/devices/system/cpu/online").text
	require.NotEmpty(t, here)
	const gone = "60000" // no machine has it
	assert.True(t, unplugged(Change{Old: here, New: here + "," + gone}, "/sys/devices/system/cpu/online"))
	assert.False(t, unplugged(Change{Old: gone, New: here}, "/sys/devices/system/cpu/online"), "somebody wrote that")
	assert.False(t, unplugged(Change{Old: gone, New: here + "," + gone}, "/sys/devices/system/cpu/online"))
	assert.False(t, unplugged(Change{Old: "", New: here}, "/sys/devices/system/cpu/online"))
	assert.True(t, unplugged(Change{Old: "", New: gone}, "/sys/devices/system/cpu/online"), "of all that it had the group has nothing")
	assert.False(t, unplugged(Change{Old: here, New: here + "," + gone}, "/nonexistent"))
}

// TestUnplug takes the second CPU of a machine of the matrix away from a group that has
// no other (fault 36, a CPU is unplugged): nothing of it is somebody's doing, and the
// group has others as soon as it is given them.
func TestUnplug(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Matrix)
	testutil.CheckLeaks(t)
	const online = "/sys/devices/system/cpu/cpu1/online"
	if _, err := os.Stat(online); err != nil {
		testutil.Skip(t, "hotplug", "%v", err)
	}
	c := newGroup(t, openRoot(t), ControllersOf(ControllerCPUSet))
	want := Resources{CPUSet: CPUSet{CPUs: SetOf(1)}}
	_, err := c.Update(t.Context(), want)
	require.NoError(t, err)
	s := spawn(t, c, "read x")
	require.NoError(t, os.WriteFile(online, []byte("0"), 0))
	plug := func() { require.NoError(t, os.WriteFile(online, []byte("1"), 0)) }
	t.Cleanup(plug)

	drift, err := c.Drift(want)
	require.NoError(t, err)
	assert.Empty(t, drift)
	_, err = c.Update(t.Context(), Resources{CPUSet: CPUSet{CPUs: SetOf(0)}})
	require.NoError(t, err)
	require.NoError(t, c.Add(t.Context(), s.Process.Pid))
	assert.Equal(t, []int{s.Process.Pid}, procs(t, c))
	plug()
	_, err = c.Update(t.Context(), want)
	require.NoError(t, err)
}
