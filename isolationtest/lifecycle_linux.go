// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"os"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// create: made once, found again, and not started where that is a call of its own.
func create(s *stand) {
	spec := s.spec("a", "wait")
	spec.Labels = map[string]string{"app": "web"}
	box := s.create(spec)
	st := s.check(box)
	if s.starts() {
		assert.Equal(s, isolation.StateCreated, st.State)
		assert.Zero(s, st.PID)
		s.nothingRuns()
	} else {
		assert.Equal(s, isolation.StateRunning, st.State)
	}
	assert.Nil(s, st.Exit)
	assert.Equal(s, "web", st.Labels["app"])

	again, err := s.host.Create(s.ctx(), spec)
	require.NoError(s, err)
	assert.Same(s, box, again, "an equal spec is the same sandbox")
	other := spec.Clone()
	other.Process.Env = []string{"OTHER=1"}
	_, err = s.host.Create(s.ctx(), other)
	require.ErrorIs(s, err, isolation.ErrExists)
	assert.Equal(s, st.State, s.check(box).State, "a spec that was refused changes nothing")
	s.destroyed(box)
}

// createNames: ids are hostile until the host has refused them, and every one that
// is left has to do.
func createNames(s *stand) {
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/a", "-a", "a\n", "a\x00b", "a b", "ä", strings.Repeat("a", 65)} {
		spec := s.spec("", "wait")
		spec.ID = id
		_, err := s.host.Create(s.ctx(), spec)
		require.ErrorIs(s, err, isolation.ErrInvalid, "%q", id)
		_, err = s.host.Check(s.ctx(), id)
		require.ErrorIs(s, err, isolation.ErrInvalid, "%q", id)
		require.ErrorIs(s, s.host.Destroy(s.ctx(), id), isolation.ErrInvalid, "%q", id)
	}
	s.nothingRuns()
	// Two that differ in case, one with all punctuation, and the longest.
	for _, name := range []string{"A", "a", ".b_c-D", strings.Repeat("z", 64-len(idPrefix))} {
		s.run(s.spec(name, "wait"))
	}
	s.eventually(func() bool { return len(s.processes()) == 4 }, "four processes")
	for _, name := range []string{"A", "a", ".b_c-D", strings.Repeat("z", 64-len(idPrefix))} {
		require.NoError(s, s.host.Destroy(s.ctx(), idPrefix+name))
		s.noGroup(idPrefix + name)
		_, err := s.host.Check(s.ctx(), idPrefix+name)
		assert.ErrorIs(s, err, isolation.ErrNotFound)
	}
}

// createRefused: what cannot be made is not made, nor a part of it, and its id is
// free. No machine has CPU 4095.
func createRefused(s *stand) {
	refused := map[string]func(*isolation.Spec){
		"cpuset": func(spec *isolation.Spec) {
			spec.Resources.PIDs.Max = cgroups.Count(100)
			spec.Resources.CPUSet.CPUs = cgroups.SetOf(4095)
		},
	}
	for name, change := range s.opt.Refused {
		refused[name] = change
	}
	for name, change := range refused {
		spec := s.spec("a", "wait")
		change(&spec)
		_, err := s.host.Create(s.ctx(), spec)
		require.Error(s, err, name)
		s.absent(spec.ID)
		s.noGroup(spec.ID)
		require.NoError(s, s.host.Destroy(s.ctx(), spec.ID), name)
	}
	s.destroyed(s.create(s.spec("a", "wait")))
}

// createNoProgram: a program that is not there is an error of whatever starts it.
func createNoProgram(s *stand) {
	spec := s.spec("a", "wait")
	spec.Process.Args = []string{"/nowhere/to/be/found"}
	box, err := s.host.Create(s.ctx(), spec)
	if s.starts() {
		require.NoError(s, err)
		for range 2 {
			err = box.Start(s.ctx())
			require.Error(s, err)
			require.NotErrorIs(s, err, isolation.ErrState, "a start that failed may be tried again")
			st := s.check(box)
			assert.Equal(s, isolation.StateCreated, st.State, "the sandbox is as before")
			assert.Zero(s, st.PIDs)
		}
		s.destroyed(box)
	} else {
		require.Error(s, err)
		s.absent(spec.ID)
		s.noGroup(spec.ID)
	}
	s.destroyed(s.running(1, s.spec("a", "wait")))
}

// createCancelled ends the context at each point at which somebody looks at it.
func createCancelled(s *stand) {
	s.cancelling(func(ctx *ending) (done bool) {
		box, err := s.host.Create(ctx, s.spec("a", "wait"))
		if err != nil {
			s.wasCut(err)
			s.absent(idPrefix + "a")
			s.noGroup(idPrefix + "a")
			return false
		}
		st := s.check(box)
		assert.Contains(s, []isolation.State{isolation.StateCreated, isolation.StateRunning}, st.State)
		s.destroyed(box)
		return !ctx.cut()
	})
}

// destroyCreated: there was never a process.
func destroyCreated(s *stand) {
	s.destroyed(s.create(s.spec("a", "wait")))
	require.NoError(s, s.host.Destroy(s.ctx(), "nobody"), "an id that is not there")
}

// destroyExited: there is no process any more.
func destroyExited(s *stand) {
	box := s.run(s.spec("a", "exit", "0"))
	s.ended(box)
	s.destroyed(box)
	s.destroyed(s.create(s.spec("a", "wait"))) // the id is free
}

// destroying ends a sandbox with a workload, of which n processes are there.
func destroying(does string, n int) func(*stand) {
	return func(s *stand) {
		box := s.running(n, s.spec("a", does))
		s.destroyed(box)
	}
}

// destroyStopped: every process is stopped by a signal.
func destroyStopped(s *stand) {
	box := s.running(2, s.spec("a", "orphans"))
	s.eventually(func() bool {
		s.signal(syscall.SIGSTOP) // also those that were just being born
		for _, pid := range s.processes() {
			// One of them may just have ended, or wait for a stopped child to get to
			// its program, as vfork(2) has it.
			text, err := os.ReadFile(procPath(pid, "stat"))
			if err == nil && !strings.Contains(string(text), ") T ") && !strings.Contains(string(text), ") D ") {
				return false
			}
		}
		return true
	}, "stopped processes")
	s.destroyed(box)
}

// destroyFrozen: a frozen process does not take signals, or only those that kill.
func destroyFrozen(s *stand) {
	box := s.running(2, s.spec("a", "orphans"))
	require.NoError(s, box.Freeze(s.ctx()))
	s.destroyed(box)
}

// destroyTwice: two callers at once, both of whom hear that it is gone.
func destroyTwice(s *stand) {
	box := s.running(2, s.spec("a", "orphans"))
	second := make(chan error, 1)
	ctx := s.ctx()
	go func() { second <- box.Destroy(ctx) }()
	require.NoError(s, box.Destroy(s.ctx()))
	require.NoError(s, <-second)
	s.absent(box.ID())
	s.noGroup(box.ID())
}

// destroyCancelled ends the context of a Destroy at each point; another one, or
// the host by itself, brings it to its end.
func destroyCancelled(s *stand) {
	s.cancelling(func(ctx *ending) (done bool) {
		box := s.running(1, s.spec("a", "wait"))
		if err := box.Destroy(ctx); err != nil {
			s.wasCut(err)
		} else {
			s.absent(box.ID())
			s.noGroup(box.ID())
		}
		s.destroyed(box)
		return !ctx.cut()
	})
}

// destroyHalfMade: an agent ends between what the driver made and the host's word
// for it. The next one has it whole or not at all.
func destroyHalfMade(s *stand) {
	s.rather(s.driver != nil, "the native driver cannot be wrapped")
	require.NoError(s, s.host.Close())
	s.reopenWith(dying{s.driver})
	func() {
		defer func() { require.Equal(s, errDies, recover()) }()
		_, _ = s.host.Create(s.ctx(), s.spec("a", "wait"))
	}()
	s.reopen()
	require.Len(s, s.host.Recovered(), 1)
	r := s.host.Recovered()[0]
	require.NoError(s, r.Err)
	if r.Adopted { // its driver could tell that it was whole
		s.destroyed(s.found())
	}
	s.absent(idPrefix + "a")
	s.noGroup(idPrefix + "a")
	s.destroyed(s.create(s.spec("a", "wait")))
}

// checkVanished: somebody else took the sandbox away.
func checkVanished(s *stand) {
	box := s.running(1, s.spec("a", "wait"))
	s.vanish(box)
	_, err := box.Check(s.ctx())
	require.ErrorIs(s, err, isolation.ErrNotFound)
	s.destroyed(box)
}

// vanish takes a running sandbox away behind the driver's back.
func (s *stand) vanish(box *isolation.Sandbox) {
	if s.opt.Vanish != nil {
		s.opt.Vanish(s.TB, box)
		return
	}
	pids := s.processes()
	require.NotEmpty(s, pids)
	groups := s.groups(pids[0])
	s.signal(syscall.SIGKILL)
	if waiter.has(s.driver) { // a child that nobody knows of any more, nobody reaps
		_, err := box.Wait(s.ctx())
		require.NoError(s, err)
	}
	s.removeGroups(groups)
}
