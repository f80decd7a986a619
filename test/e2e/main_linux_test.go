// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/test/foreign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// need asks for what the tests of containers' whole lives need, and for
// programs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	testutil.Require(t, testutil.EndToEnd)
	needHere(t, programs...)
}

// needHere is need for tests that run in the kernel matrix, too.
func needHere(t *testing.T, programs ...string) {
	t.Helper()
	testutil.Require(t, testutil.Root)
	if !testutil.Emulated() {
		testutil.Require(t, testutil.EndToEnd)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			testutil.Skip(t, testutil.Requirement(p), "%v", err)
		}
	}
	testutil.CheckLeaks(t)
}

// deadline bounds one operation of a test; it says nothing about speed.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(time.Minute))
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for something that others make happen.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, testutil.Patience(30*time.Second), 20*time.Millisecond, what)
}

// parentName names a group for a runtime to work in, which is gone when the test
// ends.
func parentName(t testing.TB) string {
	t.Helper()
	name := testutil.CgroupName(t)
	t.Cleanup(func() { assert.NoError(t, foreign.RemoveGroups(name)) })
	return name
}

// groups are the group of this name and all below it, in every tree.
func groups(t testing.TB, name string) []string {
	t.Helper()
	list, err := foreign.Groups(name)
	require.NoError(t, err)
	return list
}

// open opens a host of the test's own, which is gone when the test ends.
func open(t testing.TB, cfg isolation.Config) *isolation.Host {
	t.Helper()
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		for s := range h.Sandboxes(nil) {
			assert.NoError(t, s.Destroy(deadline(t)))
		}
		assert.NoError(t, h.Remove(deadline(t)))
		assert.NoError(t, h.Close())
	})
	return h
}

func config(t testing.TB) isolation.Config {
	t.Helper()
	return isolation.Config{Root: filepath.Join(t.TempDir(), "state"), Parent: testutil.CgroupName(t)}
}

func update(t testing.TB, s *isolation.Sandbox, r cgroups.Resources) {
	t.Helper()
	_, err := s.Update(deadline(t), r)
	require.NoError(t, err)
}

// holds is what the kernel holds.
func holds(t testing.TB, s *isolation.Sandbox) cgroups.Resources {
	t.Helper()
	r, err := s.Cgroup().Resources()
	require.NoError(t, err)
	return r
}

func check(t testing.TB, s *isolation.Sandbox) isolation.Status {
	t.Helper()
	st, err := s.Check(deadline(t))
	require.NoError(t, err)
	return st
}

// offered is r without the knobs that this kernel and layout do not have.
func offered(t testing.TB, s *isolation.Sandbox, r cgroups.Resources) bool {
	t.Helper()
	_, err := s.Plan(r)
	if err != nil {
		require.ErrorIs(t, err, isolation.ErrNotSupported)
	}
	return err == nil
}

// takeCharge is what works on a container of whatever runtime, and does it no
// harm.
func takeCharge(t *testing.T, target isolation.Target) {
	t.Helper()
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "theirs", target)
	require.NoError(t, err)
	st := check(t, s)
	assert.True(t, st.Adopted)
	assert.Equal(t, isolation.StateRunning, st.State)
	require.Positive(t, st.PID)

	before, cpus := holds(t, s), allowed(t, st.PID)
	for _, r := range []cgroups.Resources{
		{PIDs: cgroups.PIDs{Max: cgroups.Count(77)}},
		{CPU: cgroups.CPU{Weight: cgroups.WeightOf(50), Max: cgroups.CPUs(0.5)}},
		{Memory: cgroups.Memory{Max: cgroups.Bytes(96 << 20)}},
		{Memory: cgroups.Memory{Max: cgroups.Bytes(48 << 20)}},
		{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0)}},
	} {
		update(t, s, r)
		now := holds(t, s)
		assert.True(t, now.Equal(now.Merge(r)), "wanted %+v, holds %+v", r, now)
	}
	assert.Equal(t, "0", allowed(t, st.PID), "the process itself")
	for _, r := range []cgroups.Resources{
		{CPU: cgroups.CPU{Burst: cgroups.DurationOf(10 * time.Millisecond)}},
		{CPU: cgroups.CPU{Idle: cgroups.On}},
		{Memory: cgroups.Memory{High: cgroups.Bytes(40 << 20)}},
	} {
		if offered(t, s, r) {
			update(t, s, r)
			now := holds(t, s)
			assert.True(t, now.Equal(now.Merge(r)), "wanted %+v, holds %+v", r, now)
		}
	}

	var stats cgroups.Stats
	require.NoError(t, s.Stat(&stats))
	n, ok := stats.PIDs.Current.Value()
	assert.True(t, ok)
	assert.Positive(t, n)
	require.NoError(t, s.Freeze(deadline(t)))
	assert.True(t, check(t, s).Frozen)
	require.NoError(t, s.Thaw(deadline(t)))
	assert.False(t, check(t, s).Frozen)

	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	s, err = h.Adopt(deadline(t), "theirs", target)
	require.NoError(t, err)
	asBefore(t, before, holds(t, s))
	assert.Equal(t, cpus, allowed(t, st.PID))
	require.NoError(t, h.Destroy(deadline(t), "theirs"))
	require.NoError(t, syscall.Kill(st.PID, 0), "it lives")
}

// asBefore compares, but for a cpuset that was empty: v2's kernel takes no list
// away from processes.
func asBefore(t testing.TB, before, now cgroups.Resources) {
	t.Helper()
	if before.CPUSet.CPUs == cgroups.DefaultSet() {
		now.CPUSet.CPUs = cgroups.DefaultSet()
	}
	assert.True(t, before.Equal(now), "%+v, was %+v", now, before)
}

// allowed are the CPUs that a process may run on.
func allowed(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "Cpus_allowed_list:")
	list, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(list)
}
