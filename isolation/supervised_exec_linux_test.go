// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// execKept runs the child "talk" in the sandbox with pipes that the supervisor keeps
// by the name "exec".
func execKept(t *testing.T, s *isolation.Sandbox) *isolation.Exec {
	t.Helper()
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	fromOut, out, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, s.Keep(deadline(t), "exec", toIn, fromOut))
	e, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "talk")}, in, out, os.Stderr)
	require.NoError(t, err)
	for _, f := range []*os.File{in, toIn, fromOut, out} {
		require.NoError(t, f.Close())
	}
	return e
}

func ended(t *testing.T, e *isolation.Exec) string {
	t.Helper()
	st, err := e.Wait(deadline(t))
	require.NoError(t, err)
	return st.String()
}

// execsOf are the further processes of a sandbox, by id.
func execsOf(t *testing.T, s *isolation.Sandbox) map[string]*isolation.Exec {
	t.Helper()
	list, err := s.Execs(deadline(t))
	require.NoError(t, err)
	byID := make(map[string]*isolation.Exec)
	for _, e := range list {
		require.NotEmpty(t, e.ID())
		byID[e.ID()] = e
	}
	require.Len(t, byID, len(list))
	return byID
}

// How a further process ended is known to the next agent, whether it has ended before
// that is there or not, and its pipes come back.
func TestSupervisedExec(t *testing.T) {
	testutil.Require(t, testutil.EachKernel)
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s := started(t, h, spec(t, "x", "wait"))
	coded, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "exit", "3")})
	require.NoError(t, err)
	require.Equal(t, "exit status 3", ended(t, coded))
	talks := execKept(t, s)
	long, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")})
	require.NoError(t, err)
	_, err = s.Exec(deadline(t), isolation.Process{Args: []string{"/nowhere"}})
	require.ErrorIs(t, err, os.ErrNotExist)
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	grouped, err := s.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "talk")}, cgroups.Resources{}, in)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.Len(t, execsOf(t, s), 4)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", talks.PID()))
	require.NoError(t, err)
	assert.Contains(t, string(text), fmt.Sprintf("\nPPid:\t%d\n", supervisorPID(t, h)))
	require.NoError(t, h.Close())

	// Nobody is there when two of them end.
	h, err = isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	files, err := s.Kept(deadline(t), "exec")
	require.NoError(t, err)
	require.Len(t, files, 2)
	defer func() { require.NoError(t, files[1].Close()) }()
	require.NoError(t, h.Close())
	_, err = files[0].WriteString("hello\n7\n")
	require.NoError(t, err)
	require.NoError(t, files[0].Close())
	_, err = toIn.WriteString("6\n")
	require.NoError(t, errors.Join(err, toIn.Close()))
	for _, e := range []*isolation.Exec{talks, grouped} {
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(cfg.Root, "supervisor", "x:"+e.ID()+".state"))
			return err == nil
		}, testutil.Patience(20*time.Second), time.Millisecond)
	}

	h = openWith(t, cfg)
	s, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	found := execsOf(t, s)
	require.Len(t, found, 4)
	assert.Equal(t, "exit status 6", ended(t, found[grouped.ID()]))
	assert.Equal(t, "exit status 3", ended(t, found[coded.ID()]), "as this one's first agent knew")
	assert.Equal(t, talks.PID(), found[talks.ID()].PID())
	assert.Equal(t, "exit status 7", ended(t, found[talks.ID()]))
	line, err := bufio.NewReader(files[1]).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "said hello\n", line)
	require.NoError(t, found[long.ID()].Signal(syscall.SIGKILL))
	assert.Equal(t, "signal 9", ended(t, found[long.ID()]))
	require.ErrorIs(t, found[long.ID()].Signal(syscall.SIGKILL), isolation.ErrState)
	assert.Same(t, found[long.ID()], execsOf(t, s)[long.ID()])

	// Those that have ended are remembered up to a number, here and there.
	for range 20 {
		e, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "exit", "0")})
		require.NoError(t, err)
		require.Equal(t, "exit status 0", ended(t, e))
	}
	assert.Len(t, execsOf(t, s), 16)
	left, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")})
	require.NoError(t, err)
	require.NoError(t, s.Destroy(deadline(t)))
	assert.Equal(t, "signal 9", ended(t, left))
	_, err = s.Execs(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotFound)
	names, err := filepath.Glob(filepath.Join(cfg.Root, "supervisor", "*.state"))
	require.NoError(t, err)
	assert.Empty(t, names)
}

// A supervisor that is killed while it is being asked for a further process: another
// one does it. How those of the first end is not known, and what had ended before is.
func TestSupervisorKilledInExec(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	cfg := supervisedConfig(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s := started(t, h, spec(t, "x", "wait"))
	long, err := s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")})
	require.NoError(t, err)
	talks := execKept(t, s)
	files, err := s.Kept(deadline(t), "exec")
	require.NoError(t, err)
	pid := supervisorPID(t, h)
	require.NoError(t, h.Close())
	_, err = files[0].WriteString("7\n")
	require.NoError(t, err)
	file := filepath.Join(cfg.Root, "supervisor", "x:"+talks.ID()+".state")
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && len(text) > 0 && text[len(text)-1] == '\n'
	}, testutil.Patience(20*time.Second), time.Millisecond)
	for _, f := range files {
		require.NoError(t, f.Close())
	}

	h, err = isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	mine := execsOf(t, s)[long.ID()]
	stop(t, pid)
	got := make(chan error)
	var e *isolation.Exec
	go func() {
		var err error
		e, err = s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "exit", "5")})
		got <- err
	}()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.NoError(t, <-got)
	_, err = syscall.Wait4(pid, nil, 0, nil) // the first agent's
	require.NoError(t, err)
	assert.Equal(t, "exit status 5", ended(t, e))
	assert.NotEqual(t, pid, supervisorPID(t, h))
	require.NoError(t, mine.Signal(syscall.SIGKILL))
	assert.Equal(t, "unknown", ended(t, mine))
	_, err = s.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")}) // or the supervisor has nothing to do
	require.NoError(t, err)
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	s, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	found := execsOf(t, s)
	assert.Len(t, found, 3)
	assert.Equal(t, "exit status 7", ended(t, found[talks.ID()]))
	assert.Equal(t, "exit status 5", ended(t, found[e.ID()]))
}
