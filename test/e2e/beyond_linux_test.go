// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The knobs that docker update, runc update and crun update do not offer, on
// containers that run.

func TestBeyondDocker(t *testing.T) {
	needHere(t, dockerPrograms...)
	d := startDocker(t, func(string) error { return nil })
	args := []string{"--memory=64m", "--memory-swap=128m", "--cpus=0.5", "--pids-limit=50"}
	disk := os.Getenv("CAISSON_BLOCKDEV")
	if disk != "" {
		args = append(args, "--device", disk)
	}
	pid := d.run("db", args...)
	before := groups(t, d.parent)
	t.Run("pid", func(t *testing.T) { takeCharge(t, isolation.PID(pid)) })
	t.Run("cgroup", func(t *testing.T) { takeCharge(t, isolation.CgroupPath(d.parent+"/"+d.inspect("db", ".Id"))) })
	t.Run("knobs", func(t *testing.T) { beyond(t, isolation.PID(pid)) })
	t.Run("high", func(t *testing.T) { d.high(t, pid) })
	t.Run("io", func(t *testing.T) { d.slowDisk(t, pid, disk) })
	t.Run("update", func(t *testing.T) { d.update(t, pid) })
	assert.Equal(t, pid, d.pid("db"))
	assert.Equal(t, "true", d.inspect("db", ".State.Running"))
	eventually(t, "nothing made, nothing removed", func() bool { return slices.Equal(before, groups(t, d.parent)) })
}

func TestBeyondRuntimes(t *testing.T) {
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			needHere(t, runtime, "busybox")
			name := parentName(t)
			c := startOCI(t, runtime, "/"+name+"/box")
			before := groups(t, name)
			takeCharge(t, isolation.PID(c.PID))
			beyond(t, isolation.CgroupPath(name+"/box"))
			require.Equal(t, before, groups(t, name), "nothing made, nothing removed")
		})
	}
}

// beyond sets what the kernel has of these knobs in one update, and restores it.
func beyond(t *testing.T, target isolation.Target) {
	t.Helper()
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "theirs", target)
	require.NoError(t, err)
	before := holds(t, s)
	cpu := 0
	if _, err := os.Stat("/sys/devices/system/cpu/cpu1"); err == nil {
		cpu = 1
	}
	all := cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}, CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(cpu)}}
	for _, r := range []cgroups.Resources{
		{CPU: cgroups.CPU{Burst: cgroups.DurationOf(20 * time.Millisecond)}},
		{CPU: cgroups.CPU{Idle: cgroups.On}},
		{Memory: cgroups.Memory{High: cgroups.Bytes(48 << 20), Low: cgroups.Bytes(4 << 20), OOMGroup: cgroups.On}},
	} {
		if offered(t, s, r) {
			all = all.Merge(r)
		} else {
			require.False(t, testutil.Emulated() && h.Mode() == cgroups.Unified, "the matrix has it: %+v", r)
		}
	}
	update(t, s, all)
	now := holds(t, s)
	assert.True(t, now.Equal(now.Merge(all)), "wanted %+v, holds %+v", all, now)
	assert.Equal(t, fmt.Sprint(cpu), allowed(t, check(t, s).PID), "the process itself")
	plan, err := s.Plan(all)
	require.NoError(t, err)
	assert.Empty(t, plan.Changes, "a second time there is nothing to write")
	assert.Empty(t, check(t, s).Drift)
	if h.Mode() == cgroups.Unified {
		for _, r := range []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO} {
			require.NoError(t, s.Cgroup().Pressure(r, new(cgroups.Pressure)))
		}
	}

	if h.Mode() != cgroups.Unified {
		high := cgroups.Resources{Memory: cgroups.Memory{High: cgroups.Bytes(32 << 20)}, PIDs: cgroups.PIDs{Max: cgroups.Count(9)}}
		_, err := s.Update(deadline(t), high)
		require.ErrorIs(t, err, isolation.ErrNotSupported, "v1 has none")
		assert.Equal(t, now.PIDs, holds(t, s).PIDs)
	}
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	s, err = h.Adopt(deadline(t), "theirs", target)
	require.NoError(t, err)
	asBefore(t, before, holds(t, s))
	require.NoError(t, s.Release(deadline(t), isolation.KeepLimits))
}

// high holds work back that memory.max would kill.
func (d *docker) high(t *testing.T, pid int) {
	h := open(t, config(t))
	if h.Mode() != cgroups.Unified {
		testutil.Skip(t, testutil.Cgroup2("memory"), "memory.high is v2's")
	}
	s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
	require.NoError(t, err)
	update(t, s, cgroups.Resources{Memory: cgroups.Memory{High: cgroups.Bytes(16 << 20)}})
	var before, after cgroups.Events
	require.NoError(t, s.Cgroup().Events(&before))
	said, err := d.CLI("exec", "db", "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=24M", "count=1")
	require.NoError(t, err, "%s", said)
	require.NoError(t, s.Cgroup().Events(&after))
	count := func(c cgroups.Reading[uint64]) uint64 { n, _ := c.Value(); return n }
	assert.Greater(t, count(after.Memory.High), count(before.Memory.High))
	assert.Equal(t, count(before.Memory.OOMKill), count(after.Memory.OOMKill))
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
}

// slowDisk is io.max, which docker update has not had either since it begins a
// container with it.
func (d *docker) slowDisk(t *testing.T, pid int, disk string) {
	path := testutil.Scratch(t)
	require.Equal(t, path, disk)
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(disk), "dev"))
	require.NoError(t, err)
	dev, err := cgroups.ParseDevice(string(b[:len(b)-1]))
	require.NoError(t, err)
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
	require.NoError(t, err)
	update(t, s, cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: dev, WriteBytes: cgroups.Bytes(1 << 20)}}}})
	begin := time.Now()
	said, err := d.CLI("exec", "db", "/bin/dd", "if=/dev/zero", "of="+disk, "bs=1M", "count=3", "oflag=direct")
	require.NoError(t, err, "%s", said)
	assert.Greater(t, time.Since(begin), 1500*time.Millisecond, "3 MiB at 1 MiB a second")
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
}

// update is docker's own, which takes back what we have set: that is told, and
// by policy undone.
func (d *docker) update(t *testing.T, pid int) {
	for _, policy := range []isolation.DriftPolicy{isolation.DriftReport, isolation.DriftReapply} {
		cfg := config(t)
		cfg.Drift = policy
		h := open(t, cfg)
		s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
		require.NoError(t, err)
		update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
		drifts := watchDrift(t, s)
		d.cli("update", "--pids-limit", "60", "db")
		want, did := cgroups.Count(60), ""
		if policy == isolation.DriftReapply {
			want, did = cgroups.Count(70), "reapplied"
		}
		ev := next(t, drifts)
		assert.Equal(t, "pids.max", ev.Knob)
		assert.Equal(t, "60", ev.Found)
		assert.Equal(t, did, ev.Did)
		assert.Equal(t, want, holds(t, s).PIDs.Max)
		require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	}
}
