// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/systemd"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/test/foreign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// systemctl must work.
func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	said, err := foreign.Run("systemctl", args...)
	require.NoError(t, err)
	return said
}

// service starts a service that is systemd's alone.
func service(t *testing.T) (name string, pid int) {
	t.Helper()
	name = testutil.CgroupName(t) + ".service"
	_, err := foreign.Run("systemd-run", "--quiet", "--unit="+name, "-p", "CPUWeight=77", "-p", "MemoryMax=100M", "-p", "TasksMax=50", "sleep", "infinity")
	require.NoError(t, err)
	t.Cleanup(func() { systemctl(t, "stop", name) })
	pid, err = strconv.Atoi(systemctl(t, "show", "-p", "MainPID", "--value", name))
	require.NoError(t, err)
	return name, pid
}

// TestSystemdService takes charge of a service of systemd's, and does it no harm.
func TestSystemdService(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	name, pid := service(t)
	for kind, target := range map[string]isolation.Target{"pid": isolation.PID(pid), "cgroup": isolation.CgroupPath("system.slice/" + name)} {
		t.Run(kind, func(t *testing.T) {
			h := open(t, config(t))
			s, err := h.Adopt(deadline(t), "theirs", target)
			require.NoError(t, err)
			st := check(t, s)
			assert.True(t, st.Adopted)
			assert.Equal(t, isolation.StateRunning, st.State)
			assert.Equal(t, pid, st.PID)
			before := holds(t, s)
			for _, r := range []cgroups.Resources{
				{PIDs: cgroups.PIDs{Max: cgroups.Count(20)}},
				{CPU: cgroups.CPU{Weight: cgroups.WeightOf(50), Max: cgroups.CPUs(0.5)}},
				{Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20)}},
				{Memory: cgroups.Memory{Max: cgroups.Bytes(32 << 20)}},
			} {
				update(t, s, r)
				now := holds(t, s)
				assert.True(t, now.Equal(now.Merge(r)), "wanted %+v, holds %+v", r, now)
			}
			var stats cgroups.Stats
			require.NoError(t, s.Stat(&stats))
			require.NoError(t, s.Freeze(deadline(t)))
			assert.True(t, check(t, s).Frozen)
			require.NoError(t, s.Thaw(deadline(t)))

			require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
			s, err = h.Adopt(deadline(t), "theirs", target)
			require.NoError(t, err)
			asBefore(t, before, holds(t, s))
			require.NoError(t, h.Destroy(deadline(t), "theirs"))
			require.NoError(t, syscall.Kill(pid, 0), "it lives")
			assert.Equal(t, "active", systemctl(t, "is-active", name))
		})
	}
}

// TestSystemdTakesBack has systemd change what we have set in a unit of its own
// (fault 38; moby-51446, moby-41233, moby-30121, runc-1605, runc-1917, runc-3180,
// systemd-25095, systemd-38648, k8s-104289): it is told, and by policy set again.
func TestSystemdTakesBack(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	name, pid := service(t)
	ours := cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(33)}, Memory: cgroups.Memory{Max: cgroups.Bytes(80 << 20)}}
	for _, policy := range []isolation.DriftPolicy{isolation.DriftReport, isolation.DriftReapply} {
		t.Run(policy.String(), func(t *testing.T) {
			cfg := config(t)
			cfg.Drift = policy
			h := open(t, cfg)
			s, err := h.Adopt(deadline(t), "theirs", isolation.PID(pid))
			require.NoError(t, err)
			update(t, s, ours)
			drifts := watchDrift(t, s)

			// It survives a reload, or its loss is told.
			systemctl(t, "daemon-reload")
			plan, err := s.Plan(ours)
			require.NoError(t, err)
			if policy == isolation.DriftReport {
				assert.Len(t, check(t, s).Drift, len(plan.Changes))
			}

			systemctl(t, "set-property", "--runtime", name, "TasksMax=44")
			for ev := next(t, drifts); ev.Knob != "pids.max"; ev = next(t, drifts) {
				assert.NotEqual(t, "given up", ev.Did)
			}
			if policy == isolation.DriftReport {
				assert.Equal(t, cgroups.Count(44), holds(t, s).PIDs.Max)
				found := false
				for _, d := range check(t, s).Drift {
					found = found || d.Knob == "pids.max" && d.Found == "44" && d.Wanted == "33"
				}
				assert.True(t, found, "%+v", check(t, s).Drift)
			} else {
				eventually(t, "our values again", func() bool {
					now := holds(t, s)
					return now.Equal(now.Merge(ours)) && len(check(t, s).Drift) == 0
				})
			}
			require.NoError(t, s.Release(deadline(t), isolation.KeepLimits))
		})
	}
}

// TestSystemdDelegated is an agent where systemd owns the tree: its sandboxes
// are below a delegated unit, and a reload, a restart of the agent and systemd's
// own changes of the unit leave them as they are, device rules among them
// (runc-3708, runc-4568, runc-4612).
func TestSystemdDelegated(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.Cgroup2("memory"))
	testutil.CheckLeaks(t)
	ctx := deadline(t)
	cfg := systemd.Config{
		Name:      testutil.CgroupName(t) + ".service",
		Resources: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20)}},
	}
	state := filepath.Join(t.TempDir(), "state")
	agent := func() (*systemd.Unit, *isolation.Host) {
		unit, err := systemd.Delegate(ctx, cfg)
		require.NoError(t, err)
		h, err := isolation.Open(ctx, isolation.Config{Root: state, Parent: unit.Parent()})
		require.NoError(t, err)
		return unit, h
	}
	unit, h := agent()
	web, err := h.Create(ctx, isolation.Spec{
		ID: "web", Process: isolation.Process{Args: []string{"/usr/bin/sleep", "1000"}},
		Resources: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}, PIDs: cgroups.PIDs{Max: cgroups.Count(50)}},
	})
	require.NoError(t, err)
	require.NoError(t, web.Start(ctx))
	pid := check(t, web).PID
	want := cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.WeightOf(7), Max: cgroups.Quota(20*time.Millisecond, 50*time.Millisecond)},
		CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20), High: cgroups.Bytes(48 << 20), Swap: cgroups.Bytes(0)},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(9)},
	}
	devices := cgroups.Resources{Devices: cgroups.DefaultDevices()}
	update(t, web, want.Merge(devices))

	as := func() {
		t.Helper()
		now := holds(t, web)
		assert.True(t, now.Equal(now.Merge(want)), "wanted %+v, holds %+v", want, now)
		plan, err := web.Plan(devices)
		require.NoError(t, err)
		assert.Empty(t, plan.Changes, "the program is there")
		st := check(t, web)
		assert.Equal(t, isolation.StateRunning, st.State)
		assert.Equal(t, pid, st.PID)
		assert.Empty(t, st.Drift)
	}
	as()
	systemctl(t, "daemon-reload")
	as()
	systemctl(t, "set-property", "--runtime", unit.Name(), "MemoryMax=200M", "CPUWeight=50")
	as()
	require.NoError(t, unit.Update(ctx, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(192 << 20)}}))
	as()

	require.NoError(t, h.Close())
	require.NoError(t, unit.Close())
	unit, h = agent()
	require.Len(t, h.Recovered(), 1)
	require.NoError(t, h.Recovered()[0].Err)
	web, err = h.Sandbox(ctx, "web")
	require.NoError(t, err)
	as()
	systemctl(t, "daemon-reload")
	as()

	require.NoError(t, h.Destroy(ctx, "web"))
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.NoError(t, h.Remove(ctx))
	require.NoError(t, h.Close())
	require.NoError(t, unit.Stop(ctx))
	require.NoError(t, unit.Close())
	_, err = os.Stat(filepath.Join("/sys/fs/cgroup", unit.Parent()))
	require.ErrorIs(t, err, os.ErrNotExist)
}
