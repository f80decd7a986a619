// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// found is the sandbox "a", which the host opened anew has adopted.
func (s *stand) found() *isolation.Sandbox {
	s.Helper()
	require.Len(s, s.host.Recovered(), 1)
	r := s.host.Recovered()[0]
	require.True(s, r.Adopted, "%s", r)
	box, err := s.host.Sandbox(s.ctx(), idPrefix+"a")
	require.NoError(s, err)
	return box
}

// recoverRunning: the sandbox lives on without a host, and the next one has it
// whole.
func recoverRunning(s *stand) {
	spec := s.spec("a", "wait")
	spec.Labels = map[string]string{"app": "web"}
	box := s.create(spec)
	if s.starts() { // one that was not started can be by the next
		s.reopen()
		box = s.found()
		require.Equal(s, isolation.StateCreated, s.check(box).State)
		require.NoError(s, box.Start(s.ctx()))
	}
	s.eventually(func() bool { return len(s.processes()) >= 1 }, "the process of %s", spec.ID)
	before := s.check(box)
	require.Contains(s, s.processes(), before.PID)
	for range 2 {
		s.reopen()
		require.Len(s, s.processes(), 1, "closing a host ends nothing")
		box = s.found()
		st := s.check(box)
		assert.Equal(s, isolation.StateRunning, st.State)
		assert.Equal(s, before.PID, st.PID)
		assert.Equal(s, before.Labels, st.Labels)
		again, err := s.host.Create(s.ctx(), spec)
		require.NoError(s, err)
		assert.Same(s, box, again)
		if s.starts() {
			require.ErrorIs(s, box.Start(s.ctx()), isolation.ErrState)
		}
	}
	if freezer.has(s.driver) {
		require.NoError(s, box.Freeze(s.ctx()))
		s.reopen()
		box = s.found()
		assert.True(s, s.check(box).Frozen)
		require.NoError(s, box.Thaw(s.ctx()))
	}
	if signaler.has(s.driver) {
		require.NoError(s, box.Signal(s.ctx(), syscall.SIGKILL))
		s.ended(box)
	}
	s.destroyed(box)
}

// recoverExited: an end that was told is not forgotten, and one that nobody saw is
// an end all the same.
func recoverExited(s *stand) {
	box := s.run(s.spec("a", "exit", "7"))
	s.ended(box)
	s.reopen()
	box = s.found()
	st := s.check(box)
	require.Equal(s, isolation.StateExited, st.State)
	require.NotNil(s, st.Exit)
	assert.True(s, st.Exit.Known)
	assert.Equal(s, 7, st.Exit.Code)
	s.destroyed(box)

	s.running(1, s.spec("a", "wait"))
	require.NoError(s, s.host.Close())
	s.signal(syscall.SIGKILL)
	s.eventually(func() bool { return len(s.processes()) == 0 }, "the end of the process")
	s.reopen()
	box = s.found()
	st = s.ended(box)
	require.NotNil(s, st.Exit)
	if st.Exit.Known {
		assert.Equal(s, 137, st.Exit.Code)
	}
	if waiter.has(s.driver) {
		end, err := box.Wait(s.ctx())
		require.NoError(s, err)
		assert.Equal(s, *st.Exit, end)
	}
	s.destroyed(box)
}

// recoverLimits: limits hold on, as they were last changed, and go on being
// changed.
func recoverLimits(s *stand) {
	box := s.running(1, s.limited("wait"))
	pid := s.processes()[0]
	_, err := box.Update(s.ctx(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
	require.NoError(s, err)
	s.reopen()
	box = s.found()
	assert.Equal(s, "70", s.pidsMax(pid))
	assert.Equal(s, cgroups.Count(70), box.Spec().Resources.PIDs.Max)
	assert.Equal(s, cgroups.Bytes(256*mib), box.Spec().Resources.Memory.Max)
	_, err = box.Update(s.ctx(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(s, err)
	assert.Equal(s, "60", s.pidsMax(pid))
	s.destroyed(box)
}

// recoverVanished: what was taken away while no host was there is taken off the
// books, with what is left of it.
func recoverVanished(s *stand) {
	if s.opt.Vanish == nil {
		// Where no cgroup2 is mounted, drivers that use package cgroups have a group
		// in one that nobody else gets at, and the sandbox is not gone.
		testutil.Require(s.TB, testutil.UnifiedTree)
	}
	box := s.running(1, s.spec("a", "wait"))
	s.vanish(box)
	s.reopen()
	require.Len(s, s.host.Recovered(), 1)
	assert.False(s, s.host.Recovered()[0].Adopted, "%s", s.host.Recovered()[0])
	assert.NoError(s, s.host.Recovered()[0].Err)
	s.absent(box.ID())
	s.destroyed(s.create(s.spec("a", "wait")))
}
