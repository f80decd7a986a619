// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/test/foreign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func startOCI(t *testing.T, runtime, group string) *foreign.OCI {
	t.Helper()
	c, err := foreign.StartOCI(runtime, t.TempDir(), group)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func TestRuntimes(t *testing.T) {
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			need(t, runtime, "busybox")
			name := parentName(t)
			c := startOCI(t, runtime, "/"+name+"/box")
			before := groups(t, name)
			t.Run("pid", func(t *testing.T) { takeCharge(t, isolation.PID(c.PID)) })
			t.Run("cgroup", func(t *testing.T) { takeCharge(t, isolation.CgroupPath(name+"/box")) })
			require.Equal(t, before, groups(t, name), "nothing made, nothing removed")
		})
	}
}

// A group that is relative is relative to where runc itself is, in each tree.
func TestRuncBelowItself(t *testing.T) {
	need(t, "runc", "busybox")
	takeCharge(t, isolation.PID(startOCI(t, "runc", parentName(t)).PID))
}

// The container ends while we are in charge of it.
func TestRuntimeEnds(t *testing.T) {
	need(t, "runc", "busybox")
	c := startOCI(t, "runc", "/"+parentName(t)+"/box")
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "theirs", isolation.PID(c.PID))
	require.NoError(t, err)
	last := watchLast(t, s)
	require.NoError(t, syscall.Kill(c.PID, syscall.SIGKILL))
	require.IsType(t, isolation.Exited{}, <-last)
	require.Equal(t, isolation.StateExited, check(t, s).State, "runc leaves the group until it is deleted")
}

func TestLXC(t *testing.T) {
	need(t, "lxc-start", "busybox")
	name := parentName(t)
	c, err := foreign.StartLXC(t.TempDir(), name)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	before := groups(t, name)
	t.Run("pid", func(t *testing.T) { takeCharge(t, isolation.PID(c.PID)) })
	t.Run("cgroup", func(t *testing.T) { takeCharge(t, isolation.CgroupPath(c.Cgroup)) })
	require.Equal(t, before, groups(t, name), "nothing made, nothing removed")
}

// watchLast gives the last event of the sandbox.
func watchLast(t *testing.T, s *isolation.Sandbox) <-chan isolation.Event {
	t.Helper()
	ctx, end := deadline(t), make(chan isolation.Event, 1)
	go func() {
		var last isolation.Event
		for ev, err := range s.Watch(ctx) {
			if err != nil {
				t.Error(err)
				break
			}
			last = ev
		}
		end <- last
	}()
	return end
}

// watchDrift gives the drift events of the sandbox from now on, until the test
// ends.
func watchDrift(t *testing.T, s *isolation.Sandbox) <-chan isolation.Drift {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	drifts, done := make(chan isolation.Drift, 100), make(chan struct{})
	go func() {
		defer close(done)
		for ev, err := range s.Watch(ctx) {
			if d, ok := ev.(isolation.Drift); ok && err == nil {
				drifts <- d
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return drifts
}

// next is the next drift event.
func next(t *testing.T, drifts <-chan isolation.Drift) isolation.Drift {
	t.Helper()
	select {
	case d := <-drifts:
		return d
	case <-deadline(t).Done():
		t.Fatal("nobody has noticed")
		return isolation.Drift{}
	}
}
