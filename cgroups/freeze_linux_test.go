// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Under emulation an empty frozen group keeps v1's freezer in use until the
// machine is thrown away. The kernel patches its own code (the static key
// freezer_active, since Linux 6.1) when the first group freezes and when the
// last one thaws, and qemu's translator sometimes keeps the breakpoint that is
// there meanwhile: every processor that then takes a signal hangs at that
// instruction of get_signal.
func init() {
	if !testutil.Emulated() {
		return
	}
	mounts, _ := testutil.CgroupMounts()
	for _, m := range mounts {
		if !m.V2 && slices.Contains(m.Controllers, "freezer") {
			_ = os.Mkdir(m.Path+"/hold", 0o755)
			_ = os.WriteFile(m.Path+"/hold/"+fileFreezer, []byte("FROZEN"), 0)
		}
	}
}

// freezers are the ways to freeze.
func freezers(c *Cgroup) map[string]*Cgroup {
	all := map[string]*Cgroup{}
	if c.unified() != nil {
		all["unified"] = c
	}
	if c.node(ControllerFreezer) != nil {
		all["legacy"] = legacyTwin(c)
	}
	return all
}

func TestFreeze(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	outer := newGroup(t, r, r.Controllers())
	c := newGroupAt(t, r, outer.Path()+"/inner", r.Controllers())
	frozen := func(c *Cgroup) bool {
		is, err := c.Frozen()
		require.NoError(t, err)
		return is
	}
	s := spawn(t, c, "while :; do :; done")
	for how, c := range freezers(c) {
		t.Run(how, func(t *testing.T) {
			assert.False(t, frozen(c))
			for range 3 {
				require.NoError(t, c.Freeze(t.Context()))
				assert.True(t, frozen(c))
				time.Sleep(20 * time.Millisecond) // the tick may find it on its way to sleep
				before := cpuTicks(t, s.Process.Pid)
				require.NoError(t, c.Freeze(t.Context()), "twice")
				assert.Equal(t, before, cpuTicks(t, s.Process.Pid), "it stands still")
				require.NoError(t, c.Thaw(t.Context()))
				assert.False(t, frozen(c))
				require.NoError(t, c.Thaw(t.Context()), "twice")
				eventually(t, "it runs", func() bool { return cpuTicks(t, s.Process.Pid) > before })
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := c.Freeze(over); err != nil { // it may be fast enough
				require.ErrorIs(t, err, context.Canceled)
				eventually(t, "thawed again", func() bool { return !frozen(c) })
			}
			require.NoError(t, c.Thaw(t.Context()))
		})
	}
	// What is frozen from above cannot be thawed below.
	for how, above := range freezers(outer) {
		t.Run(how+"/above", func(t *testing.T) {
			c := freezers(c)[how]
			require.NoError(t, above.Freeze(t.Context()))
			assert.True(t, frozen(c))
			ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(10*time.Second))
			defer cancel()
			err := c.Thaw(ctx)
			require.ErrorContains(t, err, "frozen")
			require.NoError(t, ctx.Err(), "found out without waiting")
			require.NoError(t, above.Thaw(t.Context()))
			require.NoError(t, c.Thaw(t.Context()))
			assert.False(t, frozen(c))
		})
	}
}

// cpuTicks is what the process has computed, in clock ticks.
func cpuTicks(tb testing.TB, pid int) int {
	tb.Helper()
	f := statFields(tb, pid)
	return f[13] + f[14]
}

func TestFreezeEmpty(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for how, c := range freezers(newGroup(t, r, r.Controllers())) {
		t.Run(how, func(t *testing.T) {
			require.NoError(t, c.Freeze(t.Context()))
			is, err := c.Frozen()
			require.NoError(t, err)
			assert.True(t, is)
			// Who comes in now stands still at once.
			s := spawn(t, c, "while :; do :; done")
			eventually(t, "frozen", func() bool { is, err := c.Frozen(); return err == nil && is })
			require.NoError(t, c.Thaw(t.Context()))
			eventually(t, "it runs", func() bool { return cpuTicks(t, s.Process.Pid) > 0 })
			require.NoError(t, c.Kill(t.Context()))
		})
	}
}

// A runtime that knows v1 alone leaves the unified directory empty.
func TestFreezeLegacyMembers(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("freezer"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, r.Controllers())
	s := start(t, "while :; do :; done")
	require.NoError(t, legacyTwin(c).Add(t.Context(), s.Process.Pid))
	s.begin(t)
	is, err := c.Populated()
	require.NoError(t, err)
	assert.True(t, is)
	require.NoError(t, c.Freeze(t.Context()))
	eventually(t, "it stands still", func() bool { return process(s.Process.Pid).State == "D" })
	is, err = c.Frozen()
	require.NoError(t, err)
	assert.True(t, is)
	require.NoError(t, c.Kill(t.Context()))
	assert.Empty(t, procs(t, c))
}

// statFields are the fields of proc_pid_stat(5) as numbers, counted from 0;
// the process's name has no space.
func statFields(tb testing.TB, pid int) []int {
	tb.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	require.NoError(tb, err)
	var f []int
	for word := range strings.FieldsSeq(string(b)) {
		n, _ := strconv.Atoi(word)
		f = append(f, n)
	}
	return f
}
