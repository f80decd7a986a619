// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

func read(t *testing.T, group, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, file))
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

func delegate(t *testing.T, cfg Config) *Unit {
	t.Helper()
	u, err := Delegate(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, u.Stop(context.WithoutCancel(t.Context())))
		assert.NoError(t, u.Close())
	})
	return u
}

func TestDelegate(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.Cgroup2("memory"))
	testutil.CheckLeaks(t)
	ctx := t.Context()
	u, err := Delegate(ctx, Config{Name: "caisson-test.service", Slice: "caisson-tests.slice", Resources: cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.WeightOf(200), Max: cgroups.CPUs(1.5)},
		CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(1)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20), Low: cgroups.Bytes(8 << 20)},
	}})
	require.NoError(t, err)
	assert.Equal(t, "caisson.slice/caisson-tests.slice/caisson-test.service", u.Parent())
	assert.Equal(t, "max", read(t, u.Parent(), "pids.max"))

	// A sandbox below, as isolation makes it.
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	g, err := root.Create(u.Parent()+"/sandbox", 0)
	require.NoError(t, err)
	defer g.Close()
	limits := cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.WeightOf(7), Max: cgroups.Quota(20*time.Millisecond, 50*time.Millisecond)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20), Swap: cgroups.Bytes(0)},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(9)},
	}
	_, err = g.Update(ctx, limits)
	require.NoError(t, err)
	require.NoError(t, u.Update(ctx, cgroups.Resources{
		Memory: cgroups.Memory{Max: cgroups.Bytes(200 << 20), Swap: cgroups.Bytes(16 << 20)}, PIDs: cgroups.PIDs{Max: cgroups.Count(100)},
	}))

	holds := func() {
		t.Helper()
		plan, err := g.Plan(limits)
		require.NoError(t, err)
		assert.Empty(t, plan.Changes)
		for file, want := range map[string]string{
			"memory.max": "209715200", "memory.swap.max": "16777216", "memory.low": "8388608", "pids.max": "100",
			"cpu.weight": "200", "cpu.max": "150000 100000", "cpuset.cpus": "1",
		} {
			assert.Equal(t, want, read(t, u.Parent(), file), file)
		}
	}
	holds()
	systemctl(t, "daemon-reload")
	holds()

	// The next process of the agent finds it again, and leaves what it is not told of.
	again, err := Delegate(ctx, Config{Name: "caisson-test.service", Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(200)}}})
	require.NoError(t, err)
	assert.Equal(t, u.Parent(), again.Parent())
	require.NoError(t, again.Close())
	holds()

	require.NoError(t, u.Stop(ctx))
	_, err = os.Stat(filepath.Join("/sys/fs/cgroup", u.Parent()))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, u.Stop(ctx), "it is gone already")
	require.NoError(t, u.Close())
	systemctl(t, "stop", "caisson.slice")
}

// A group below that runs out of memory is its own affair.
func TestOutOfMemoryBelow(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.Cgroup2("memory"))
	u := delegate(t, Config{Name: "caisson-oom.service"})
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	g, err := root.Create(u.Parent()+"/sandbox", 0)
	require.NoError(t, err)
	defer g.Close()
	_, err = g.Update(t.Context(), cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(4 << 20), Swap: cgroups.Bytes(0)}})
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", "read x; a=xxxxxxxx; while :; do a=$a$a; done")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, g.Add(t.Context(), cmd.Process.Pid))
	require.NoError(t, in.Close())
	assert.Error(t, cmd.Wait(), "killed")
	assert.Contains(t, read(t, u.Parent()+"/sandbox", "memory.events"), "oom_kill 1")
	assert.Equal(t, "active", systemctl(t, "is-active", u.Name()))
	systemctl(t, "daemon-reload")
	assert.Equal(t, "active", systemctl(t, "is-active", u.Name()))
}

func TestDelegateRefusals(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	for _, cfg := range []Config{
		{Name: "a/b.service"},
		{Name: "a.scope"},
		{Name: "a.service", Slice: "b.service"},
		{Name: "a.service", Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(0)}}},
	} {
		_, err := Delegate(t.Context(), cfg)
		assert.ErrorIs(t, err, cgroups.ErrInvalid, "%+v", cfg)
	}
	_, err := Delegate(t.Context(), Config{Name: "a.service", Resources: cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}}})
	assert.ErrorIs(t, err, cgroups.ErrNotSupported)
}

func TestDelegateNeedsV2(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.LegacyTree)
	testutil.CheckLeaks(t)
	_, err := Delegate(t.Context(), Config{Name: "caisson-test.service"})
	assert.ErrorIs(t, err, cgroups.ErrNotSupported)
}

// A name that somebody else's unit has is refused, and that unit is left alone.
func TestDelegateForeignName(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.Cgroup2("memory"))
	testutil.CheckLeaks(t)
	stop := foreign(t)
	defer stop()
	before := read(t, "system.slice/caisson-foreign.service", "cpu.weight")
	_, err := Delegate(t.Context(), Config{Name: "caisson-foreign.service", Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(3)}}})
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "take", e.Op)
	assert.Equal(t, "active", systemctl(t, "is-active", "caisson-foreign.service"))
	assert.Equal(t, before, read(t, "system.slice/caisson-foreign.service", "cpu.weight"))
}

// foreign starts a service that is not this package's.
func foreign(t *testing.T) (stop func()) {
	t.Helper()
	out, err := exec.Command("systemd-run", "--unit=caisson-foreign", "--quiet",
		"-p", "CPUWeight=77", "-p", "MemoryMax=100M", "-p", "TasksMax=50", "sleep", "infinity").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return func() { systemctl(t, "stop", "caisson-foreign.service") }
}

// The limits of a service that somebody else started change through systemd, on
// v1 too, and outlast a daemon-reload (fault 38).
func TestOpenForeign(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	stop := foreign(t)
	defer stop()

	u, err := Open(t.Context(), "caisson-foreign.service")
	require.NoError(t, err)
	defer func() { assert.NoError(t, u.Close()) }()
	assert.Equal(t, "system.slice/caisson-foreign.service", u.Parent())
	r := cgroups.Resources{
		Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20)}, PIDs: cgroups.PIDs{Max: cgroups.Count(20)},
	}
	require.NoError(t, u.Update(t.Context(), r))
	systemctl(t, "daemon-reload")
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	g, err := root.Open(u.Parent())
	require.NoError(t, err)
	defer g.Close()
	plan, err := g.Plan(r)
	require.NoError(t, err)
	assert.Empty(t, plan.Changes)
	assert.Equal(t, "MemoryMax=67108864\nTasksMax=20", systemctl(t, "show", "-p", "MemoryMax,TasksMax", u.Name()))
	assert.ErrorIs(t, u.Stop(t.Context()), cgroups.ErrNotSupported, "it is not ours")
}

func TestOpenNothing(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	_, err := Open(t.Context(), "caisson-none.service")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open(t.Context(), "caisson.mount")
	assert.ErrorIs(t, err, cgroups.ErrInvalid)
}

// What the kernel refuses is reported, though systemd is content.
func TestNotHeld(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd, testutil.Cgroup2("cpuset"))
	u := delegate(t, Config{Name: "caisson-held.service"})
	err := u.Update(t.Context(), cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(500)}})
	var e *NotHeldError
	require.ErrorAs(t, err, &e)
	assert.NotEmpty(t, e.Changes)
}

// A connection ends with its caller's context only until it stands.
func TestConnectContext(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Systemd)
	testutil.CheckLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	u, err := Open(ctx, "dbus.service")
	require.NoError(t, err)
	cancel()
	_, err = Open(ctx, "dbus.service")
	require.ErrorIs(t, err, context.Canceled)
	_, err = u.locate(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "system.slice/dbus.service", u.Parent())
	require.NoError(t, u.Close())
	_, err = u.locate(t.Context())
	assert.ErrorIs(t, err, os.ErrClosed)
}
