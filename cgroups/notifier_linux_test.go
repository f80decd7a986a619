// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// ready waits until the notifier's descriptor is ready, or returns false after
// d.
func ready(tb testing.TB, n *Notifier, d time.Duration) bool {
	tb.Helper()
	deadline := time.Now().Add(d)
	for {
		fds := []unix.PollFd{{Fd: int32(n.FD()), Events: int16(n.PollEvents())}}
		got, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		require.NoError(tb, err)
		return got > 0
	}
}

// awaitEvents takes notes until is holds.
func awaitEvents(tb testing.TB, c *Cgroup, n *Notifier, what string, is func(e *Events) bool) {
	tb.Helper()
	deadline := time.Now().Add(testutil.Patience(20 * time.Second))
	for {
		require.True(tb, ready(tb, n, time.Until(deadline)), "no event: %s", what)
		require.NoError(tb, n.Ack())
		var e Events
		require.NoError(tb, c.Events(&e))
		if is(&e) {
			return
		}
	}
}

// quiet is when nothing happens any more.
func quiet(tb testing.TB, n *Notifier) {
	tb.Helper()
	for range 100 {
		if !ready(tb, n, 50*time.Millisecond) {
			return
		}
		require.NoError(tb, n.Ack())
	}
	tb.Fatal("a notifier that was read is ready for ever")
}

func openEvents(tb testing.TB, c *Cgroup, kind EventKind) *Notifier {
	tb.Helper()
	n, err := c.OpenEvents(kind)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, n.Close()) })
	assert.False(tb, ready(tb, n, 0), "nothing has happened yet")
	return n
}

func TestNotifierOOM(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, has(t, r, ControllerMemory))
	const most = "16777216"
	limit(t, c, ControllerMemory, "memory.max", most, "memory.limit_in_bytes", most)
	n := c.node(ControllerMemory)
	for _, f := range []string{"memory.swap.max", "memory.memsw.limit_in_bytes"} {
		if there, err := n.dir.Has(f); err == nil && there {
			require.NoError(t, n.dir.WriteFile(f, map[bool]string{true: "0", false: most}[n.in.v2]))
		}
	}
	events := openEvents(t, c, EventMemory)
	w := newWorker(t, c)
	w.tell(t, "eat %d", 64<<20)
	if n.in.v2 {
		awaitEvents(t, c, events, "an OOM kill", func(e *Events) bool { return value(t, e.Memory.OOMKill) > 0 })
	} else {
		// v1 tells of running out of memory just before it kills.
		awaitEvents(t, c, events, "out of memory", func(*Events) bool { return true })
		eventually(t, "an OOM kill", func() bool {
			var e Events
			require.NoError(t, c.Events(&e))
			return value(t, e.Memory.OOMKill) > 0
		})
	}
	require.Error(t, w.Wait())
	quiet(t, events)

	var s Stats
	require.NoError(t, c.Stat(&s))
	assert.NotZero(t, value(t, s.Memory.Events.OOMKill))
	assert.Equal(t, Bytes(16<<20), s.Memory.Max)
	if n.in.v2 {
		assert.NotZero(t, value(t, s.Memory.Events.Max)) // v1's failcnt stays 0 on some kernels
		assert.NotZero(t, value(t, s.Memory.Events.OOM))
		swap := openEvents(t, c, EventSwap)
		assert.False(t, ready(t, swap, 0))
	} else {
		_, err := c.OpenEvents(EventSwap)
		require.ErrorIs(t, err, ErrNotSupported)
	}
}

func TestNotifierPIDs(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, has(t, r, ControllerPIDs))
	require.NoError(t, c.node(ControllerPIDs).dir.WriteFile("pids.max", "1"))
	events := openEvents(t, c, EventPIDs)
	spawn(t, c, "/bin/true; exit 0")
	refused := func(e *Events) bool { return value(t, e.PIDs.Max) > 0 }
	if c.node(ControllerPIDs).in.v2 {
		awaitEvents(t, c, events, "a refused fork", refused)
	} else { // v1 only counts, since Linux 6.11
		eventually(t, "a refused fork", func() bool {
			var e Events
			require.NoError(t, c.Events(&e))
			return refused(&e)
		})
	}
	quiet(t, events)
}

func TestNotifierState(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	if c.unified() == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	events := openEvents(t, c, EventState)
	w := newWorker(t, c)
	awaitEvents(t, c, events, "populated", func(e *Events) bool { return value(t, e.Populated) })
	quiet(t, events)
	require.NoError(t, c.unified().dir.WriteFile("cgroup.freeze", "1"))
	awaitEvents(t, c, events, "frozen", func(e *Events) bool { return value(t, e.Frozen) })
	require.NoError(t, c.unified().dir.WriteFile("cgroup.freeze", "0"))
	awaitEvents(t, c, events, "thawed", func(e *Events) bool { return !value(t, e.Frozen) })
	w.end(t)
	awaitEvents(t, c, events, "empty", func(e *Events) bool { return !value(t, e.Populated) })
}

// A removed group makes its notifiers ready, and Ack says why, whether or not
// the group's own value is still open.
func TestNotifierGone(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for _, closed := range []bool{false, true} {
		group := newGroup(t, r, 0)
		c, err := r.Open(group.Path())
		require.NoError(t, err)
		var all []*Notifier
		for _, k := range []EventKind{EventMemory, EventSwap, EventPIDs, EventState} {
			if n, err := c.OpenEvents(k); err == nil {
				all = append(all, n)
			} else {
				require.ErrorIs(t, err, ErrNotSupported, k)
			}
		}
		for _, res := range []PressureResource{PressureCPU, PressureMemory, PressureIO} {
			if n, err := c.OpenTrigger(res, Trigger{Stall: time.Second, Window: 2 * time.Second}); err == nil {
				all = append(all, n)
			} else {
				require.ErrorIs(t, err, ErrNotSupported, res)
			}
		}
		require.NotEmpty(t, all)
		if closed {
			require.NoError(t, c.Close())
		}
		removeBehind(t, group)
		for _, n := range all {
			assert.True(t, ready(t, n, testutil.Patience(5*time.Second)), n.file.Path())
			assert.ErrorIs(t, n.Ack(), ErrGone, n.file.Path())
			assert.True(t, ready(t, n, 0) || n.event != nil, "gone for ever")
			assert.NoError(t, n.Close())
			assert.NoError(t, n.Close())
			assert.Equal(t, -1, n.FD())
			assert.Error(t, n.Ack())
		}
		require.NoError(t, c.Close())
	}
}

// With the capability, a trigger tells of a stall within a window.
func TestTriggerFires(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.PSI, testutil.SysResource)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, has(t, r, ControllerCPU))
	if c.unified() == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	limit(t, c, ControllerCPU, "cpu.max", "10000 100000", "cpu.cfs_quota_us", "10000")
	wait := Trigger{Stall: 50 * time.Millisecond, Window: 500 * time.Millisecond}
	n, err := c.OpenTrigger(PressureCPU, wait)
	require.NoError(t, err)
	defer n.Close()
	machine, err := r.OpenTrigger(PressureCPU, wait)
	require.NoError(t, err)
	defer machine.Close()
	w := newWorker(t, c)
	w.tell(t, "spin 300ms")
	assert.True(t, ready(t, n, testutil.Patience(10*time.Second)))
	assert.NoError(t, n.Ack())
	assert.True(t, ready(t, machine, testutil.Patience(10*time.Second)))
	assert.NoError(t, machine.Ack())
	var p Pressure
	require.NoError(t, c.Pressure(PressureCPU, &p))
	assert.GreaterOrEqual(t, p.Some.Total, wait.Stall)
}

// Without the capability, short windows are refused with the reason, and long
// ones are taken (fault 47).
func TestTriggerPrivilege(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.PSI)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	if c.unified() == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	for _, open := range []func(PressureResource, Trigger) (*Notifier, error){c.OpenTrigger, r.OpenTrigger} {
		n, err := open(PressureMemory, Trigger{Stall: 100 * time.Millisecond, Window: 500 * time.Millisecond})
		if err != nil {
			require.ErrorIs(t, err, ErrNotSupported)
			require.ErrorContains(t, err, "CAP_SYS_RESOURCE")
			assert.NotContains(t, err.Error(), "\\x00")
		} else {
			require.NoError(t, n.Close())
		}
		n, err = open(PressureMemory, Trigger{Full: true, Stall: 100 * time.Millisecond, Window: 2 * time.Second})
		if err != nil { // Linux 5.12 to 6.4, /proc/pressure
			require.ErrorIs(t, err, ErrNotSupported)
			continue
		}
		assert.False(t, ready(t, n, 0))
		require.NoError(t, n.Close())
	}

	// The full line of cpu is younger than PSI.
	var p Pressure
	require.NoError(t, c.Pressure(PressureCPU, &p))
	n, err := c.OpenTrigger(PressureCPU, Trigger{Full: true, Stall: time.Second, Window: 2 * time.Second})
	if p.Full.Present {
		require.NoError(t, err)
		require.NoError(t, n.Close())
	} else {
		require.ErrorIs(t, err, ErrNotSupported)
		assert.True(t, strings.Contains(err.Error(), "full"), err)
	}
}
