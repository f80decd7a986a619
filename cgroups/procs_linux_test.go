// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// script is a shell script that begins when told to.
type script struct {
	*exec.Cmd
	in io.WriteCloser
}

// start starts a script outside of any group; it waits for begin. The test ends
// it.
func start(tb testing.TB, text string) *script {
	tb.Helper()
	s := &script{Cmd: exec.Command("/bin/sh", "-c", "read go\n"+text)}
	s.Stdin = nil
	var err error
	s.in, err = s.StdinPipe()
	require.NoError(tb, err)
	require.NoError(tb, s.Start())
	tb.Cleanup(func() {
		_ = s.Process.Kill()
		_ = s.in.Close()
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Wait() }()
		select {
		case <-done:
		case <-time.After(testutil.Patience(5 * time.Second)):
			tb.Errorf("%v does not die", process(s.Process.Pid))
		}
	})
	return s
}

func (s *script) begin(tb testing.TB) {
	tb.Helper()
	_, err := io.WriteString(s.in, "\n")
	require.NoError(tb, err)
}

// spawn runs a script in the group.
func spawn(tb testing.TB, c *Cgroup, text string) *script {
	tb.Helper()
	s := start(tb, text)
	require.NoError(tb, c.Add(tb.Context(), s.Process.Pid))
	s.begin(tb)
	return s
}

// eventually waits for something that happens soon.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	require.Eventually(tb, is, testutil.Patience(10*time.Second), 5*time.Millisecond, what)
}

func procs(tb testing.TB, c *Cgroup) []int {
	tb.Helper()
	pids, err := c.Procs(nil)
	require.NoError(tb, err)
	return pids
}

// A process that begins through Join is in every tree from its birth.
func TestJoin(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	j, err := c.Join()
	require.NoError(t, err)
	again, err := c.Join()
	require.NoError(t, err)
	assert.Equal(t, j, again, "opened once")
	assert.Equal(t, c.unified() != nil, j.Unified >= 0)

	text := ""
	cmd := exec.Command("/bin/sh", "-c", "")
	for i, fd := range j.Tasks {
		dup, err := syscall.Dup(fd)
		require.NoError(t, err)
		f := os.NewFile(uintptr(dup), "tasks")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		text += fmt.Sprintf("echo 0 >/proc/self/fd/%d || exit 1\n", 3+i)
	}
	cmd.Args[2] = text + "echo in; read x"
	if j.Unified >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: j.Unified}
	}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 3)
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	for _, n := range c.places() {
		pids, err := readPIDs(n.dir, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{cmd.Process.Pid}, pids, n.dir.Path())
	}
	assert.Equal(t, []int{cmd.Process.Pid}, procs(t, c))
	require.NoError(t, in.Close())
	_ = cmd.Wait()
	_, err = c.JoinFrom(cmd.Process.Pid)
	require.NoError(t, err, "of a parent that has ended its caller hears later")

	require.NoError(t, c.CloseJoin())
	require.NoError(t, c.CloseJoin(), "twice")
	j, err = c.Join()
	require.NoError(t, err)
	assert.Len(t, j.Tasks, len(again.Tasks))
}

func TestAdd(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	for _, pid := range []int{0, -1} {
		require.ErrorIs(t, c.Add(t.Context(), pid), ErrInvalid)
	}
	s := start(t, "read x")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Add(over, s.Process.Pid), context.Canceled)
	assert.Empty(t, procs(t, c))
	require.NoError(t, c.Add(t.Context(), s.Process.Pid))
	assert.Equal(t, []int{s.Process.Pid}, procs(t, c))
	is, err := c.Populated()
	require.NoError(t, err)
	assert.True(t, is)
	for _, n := range c.places() {
		is, err := everyone([]*node{n})
		require.NoError(t, err)
		assert.Equal(t, []int{s.Process.Pid}, is, n.dir.Path())
	}
	require.NoError(t, s.Process.Kill())
	_ = s.Wait()
	require.ErrorIs(t, c.Add(t.Context(), s.Process.Pid), syscall.ESRCH)
	eventually(t, "populated", func() bool { is, err := c.Populated(); return err == nil && !is })
}

// A tree that refuses undoes the move in the others.
func TestAddUndone(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("cpuset"), testutil.Cgroup1("cpu"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	old := newGroup(t, r, 0)
	s := spawn(t, old, "read x")
	c := newGroup(t, r, 0)
	n := c.node(ControllerCPUSet)
	// The kernel lets no process into a cpuset without CPUs.
	require.NoError(t, n.dir.WriteFile("cpuset.cpus", "\n"))
	require.ErrorIs(t, c.Add(t.Context(), s.Process.Pid), syscall.ENOSPC)
	for _, n := range c.places() {
		pids, err := readPIDs(n.dir, nil)
		require.NoError(t, err)
		assert.Empty(t, pids, n.dir.Path())
	}
	for _, n := range old.places() {
		pids, err := readPIDs(n.dir, nil)
		require.NoError(t, err)
		assert.Equal(t, []int{s.Process.Pid}, pids, n.dir.Path())
	}
}

// More processes than a page of numbers.
func TestProcsMany(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	// Past our buffer, and past the page that the kernel fills at a time.
	many := 1100
	if testutil.Emulated() {
		many = 300 // past our buffer: a fork takes 10 ms there
	}
	spawn(t, c, fmt.Sprintf("exec 3<&0; i=0; while [ $i -lt %d ]; do (read x <&3) & i=$((i+1)); done; wait", many))
	var pids []int
	eventually(t, "all processes", func() bool {
		pids = procs(t, c)
		return len(pids) == many+1
	})
	b := pids[:0]
	again, err := c.Procs(b)
	require.NoError(t, err)
	assert.Equal(t, &pids[0], &again[0], "the buffer is used")
}

// A group that is put under a controller later takes its processes with it.
func TestEnsure(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerPIDs))
	before, err := c.Join()
	require.NoError(t, err)
	// It forks all the time, and has a group below.
	s := spawn(t, c, "exec 3<&0; (read x <&3) & while :; do (exit) & wait $!; done")
	for _, ctl := range r.Controllers().List() {
		n, err := c.ensure(t.Context(), ctl)
		require.NoError(t, err, ctl)
		assert.Equal(t, n, c.node(ctl))
		assert.True(t, c.Controllers().Has(ctl))
		pids, err := readPIDs(n.dir, nil)
		require.NoError(t, err)
		assert.Contains(t, pids, s.Process.Pid)
		same, err := c.ensure(t.Context(), ctl)
		require.NoError(t, err)
		assert.Equal(t, n, same)
	}
	order := r.hierarchies
	for _, n := range c.places() {
		require.Contains(t, order, n.in, "in the root's order")
		for order[0] != n.in {
			order = order[1:]
		}
	}
	j, err := c.Join()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(j.Tasks), len(before.Tasks))
	for _, fd := range before.Tasks {
		assert.Contains(t, j.Tasks, fd, "held ones stay")
	}
}

func TestEnsureUndone(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("cpuset"), testutil.Cgroup1("pids"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerPIDs))
	s := spawn(t, c, "read x")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.ensure(over, ControllerCPUSet)
	require.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, c.node(ControllerCPUSet))
	there, err := r.where[ControllerCPUSet].dir.Has(c.Path())
	require.NoError(t, err)
	assert.False(t, there)
	all, err := memberships(strconv.Itoa(s.Process.Pid))
	require.NoError(t, err)
	rel, ok := r.where[ControllerCPUSet].of(all, 0)
	assert.True(t, ok)
	assert.Empty(t, rel)

	_, err = c.ensure(t.Context(), numControllers-1) // freezer: there, or done by the unified tree
	require.NoError(t, err)
	for _, ctl := range (^r.Controllers() & (1<<numControllers - 1)).List() {
		if _, err := c.ensure(t.Context(), ctl); !r.without(ctl) {
			require.ErrorIs(t, err, ErrNotSupported)
			assert.True(t, strings.HasPrefix(err.Error(), ctl.String()))
		}
	}
}
