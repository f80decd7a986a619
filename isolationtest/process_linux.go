// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pipe is one whose ends are closed with the part, or before.
func (s *stand) pipe() (r, w *os.File) {
	s.Helper()
	r, w, err := os.Pipe()
	require.NoError(s, err)
	s.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// start: descriptors, environment and directory are those that were given, the first
// three block and can be opened again, as programs expect, and there is one start.
func start(s *stand) {
	spec := s.spec("a", "echo")
	spec.Process.Env = append(spec.Process.Env, "SAID=so")
	spec.Process.Dir = "/proc"
	box := s.create(spec)
	in, feed := s.pipe()
	out, outW := s.pipe()
	errs, errsW := s.pipe()
	extra, extraW := s.pipe()
	require.NoError(s, box.Start(s.ctx(), in, outW, errsW, extraW))
	for _, f := range []*os.File{in, outW, errsW, extraW} {
		require.NoError(s, f.Close(), "the caller's own")
	}
	st := s.check(box)
	assert.Equal(s, isolation.StateRunning, st.State)
	s.eventually(func() bool { return slices.Contains(s.processes(), st.PID) }, "process %d", st.PID)
	require.ErrorIs(s, box.Start(s.ctx()), isolation.ErrState)

	_, err := feed.WriteString("hello")
	require.NoError(s, errors.Join(err, feed.Close()))
	for r, want := range map[*os.File]string{out: "hello", errs: "error", extra: "so /proc blocking"} {
		text, err := io.ReadAll(r)
		require.NoError(s, err)
		assert.Equal(s, want, string(text))
	}
	end, err := box.Wait(s.ctx())
	require.NoError(s, err)
	assert.True(s, end.Known)
	assert.Zero(s, end.Code)
	require.ErrorIs(s, box.Start(s.ctx()), isolation.ErrState)
	s.destroyed(box)
}

// startCancelled ends the context of a start at each point: then the process is
// gone, and may be started.
func startCancelled(s *stand) {
	box := s.create(s.spec("a", "wait"))
	s.cancelling(func(ctx *ending) (done bool) {
		err := box.Start(ctx)
		if err != nil {
			s.wasCut(err)
			assert.Equal(s, isolation.StateCreated, s.check(box).State)
			s.nothingRuns()
			return false
		}
		return true
	})
	assert.Equal(s, isolation.StateRunning, s.check(box).State)
	s.destroyed(box)
}

// exitCode: how the process ended is told, and goes on being told.
func exitCode(s *stand) {
	box := s.run(s.spec("a", "exit", "7"))
	st := s.ended(box)
	assert.Zero(s, st.PID)
	require.NotNil(s, st.Exit)
	assert.True(s, st.Exit.Known)
	assert.Equal(s, 7, st.Exit.Code)
	assert.Zero(s, st.Exit.Signal)
	assert.False(s, st.Exit.OOM)
	assert.Equal(s, st.Exit, s.check(box).Exit)
}

// exitSignal: a signal is told as one.
func exitSignal(s *stand) {
	box := s.running(1, s.spec("a", "wait"))
	st := s.check(box)
	require.Equal(s, isolation.StateRunning, st.State)
	require.Contains(s, s.processes(), st.PID)
	s.signal(syscall.SIGKILL)
	st = s.ended(box)
	require.NotNil(s, st.Exit)
	assert.True(s, st.Exit.Known)
	assert.Equal(s, int(syscall.SIGKILL), st.Exit.Signal)
	assert.Equal(s, 128+int(syscall.SIGKILL), st.Exit.Code)
	assert.False(s, st.Exit.OOM)
}

// wait: by many, again, not before the start, and no longer than the context.
func wait(s *stand) {
	box := s.create(s.spec("a", "wait"))
	_, err := box.Wait(s.ctx())
	require.ErrorIs(s, err, isolation.ErrState, "no process was started")
	require.NoError(s, box.Start(s.ctx()))

	ctx, cancel := context.WithCancelCause(s.ctx())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, err := box.Wait(ctx)
		assert.ErrorIs(s, err, errCut)
	})
	for range 8 {
		ctx := s.ctx()
		waiting.Go(func() {
			end, err := box.Wait(ctx)
			assert.NoError(s, err)
			assert.Equal(s, 137, end.Code)
		})
	}
	cancel(errCut)
	s.eventually(func() bool { return len(s.processes()) == 1 }, "the process")
	s.signal(syscall.SIGKILL)
	waiting.Wait()
	end, err := box.Wait(s.ctx())
	require.NoError(s, err)
	assert.Equal(s, 137, end.Code)
}

// signals: to a process that runs, and to no other.
func signals(s *stand) {
	box := s.create(s.spec("a", "wait"))
	if s.starts() {
		require.ErrorIs(s, box.Signal(s.ctx(), syscall.SIGKILL), isolation.ErrState, "no process was started")
		require.NoError(s, box.Start(s.ctx()))
	}
	require.NoError(s, box.Signal(s.ctx(), 0), "asks whether there is a process")
	require.NoError(s, box.Signal(s.ctx(), syscall.SIGKILL))
	s.ended(box)
	require.ErrorIs(s, box.Signal(s.ctx(), syscall.SIGKILL), isolation.ErrState)
}

// signalHandled: the process gets the signal that was sent, and not another.
func signalHandled(s *stand) {
	box := s.create(s.spec("a", "handle"))
	out, w := s.pipe()
	require.NoError(s, box.Start(s.ctx(), nil, w))
	require.NoError(s, w.Close())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(s, err)
	require.Equal(s, "ready\n", line)
	require.NoError(s, box.Signal(s.ctx(), syscall.SIGTERM))
	end, err := box.Wait(s.ctx())
	require.NoError(s, err)
	assert.Equal(s, 3, end.Code)
	assert.Zero(s, end.Signal)
}

// execs: a further process is in the sandbox, tells how it ended, and ends with it.
func execs(s *stand) {
	box := s.create(s.spec("a", "wait"))
	process := s.spec("b", "echo").Process
	process.Env = append(process.Env, "SAID=more")
	if s.starts() {
		_, err := box.Exec(s.ctx(), process)
		require.ErrorIs(s, err, isolation.ErrState, "the first process has to live")
		require.NoError(s, box.Start(s.ctx()))
	}
	in, feed := s.pipe()
	out, outW := s.pipe()
	extra, extraW := s.pipe()
	e, err := box.Exec(s.ctx(), process, in, outW, nil, extraW)
	require.NoError(s, err)
	require.NoError(s, errors.Join(in.Close(), outW.Close(), extraW.Close()))
	first := s.check(box).PID
	for _, g := range s.groups(e.PID()) {
		assert.Contains(s, s.groups(first), g, "the same group")
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		want, err1 := os.Readlink(procPath(first, "ns/"+ns))
		got, err2 := os.Readlink(procPath(e.PID(), "ns/"+ns))
		require.NoError(s, errors.Join(err1, err2))
		assert.Equal(s, want, got)
	}
	_, err = feed.WriteString("hello")
	require.NoError(s, errors.Join(err, feed.Close()))
	for r, want := range map[*os.File]string{out: "hello", extra: "more / blocking"} {
		text, err := io.ReadAll(r)
		require.NoError(s, err)
		assert.Equal(s, want, string(text))
	}
	end, err := e.Wait(s.ctx())
	require.NoError(s, err)
	assert.True(s, end.Known)
	assert.Zero(s, end.Code)
	require.ErrorIs(s, e.Signal(syscall.SIGKILL), isolation.ErrState)

	process.Args = []string{"/nowhere/to/be/found"}
	_, err = box.Exec(s.ctx(), process)
	require.Error(s, err)
	killed, err := box.Exec(s.ctx(), s.spec("b", "wait").Process)
	require.NoError(s, err)
	require.NoError(s, killed.Signal(syscall.SIGKILL))
	end, err = killed.Wait(s.ctx())
	require.NoError(s, err)
	assert.Equal(s, int(syscall.SIGKILL), end.Signal)
	left, err := box.Exec(s.ctx(), s.spec("b", "deaf").Process)
	require.NoError(s, err)
	s.destroyed(box)
	_, err = left.Wait(s.ctx())
	require.NoError(s, err)
}
