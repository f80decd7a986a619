// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
)

// posed is a client of a supervisor that does with its first request what the test
// says, and hangs up.
func posed(t *testing.T, act func(c *conn)) *Client {
	t.Helper()
	dir := t.TempDir()
	listener, err := listen(dir, Version)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(listener)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
		assert.NoError(t, err)
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if !assert.NoError(t, err) {
			return
		}
		c, err := newConn(fd)
		assert.NoError(t, err)
		act(c)
		_ = c.close()
	}()
	client := NewClient(dir)
	t.Cleanup(func() { <-done; _ = client.Close() })
	return client
}

// A launch that a supervisor leaves behind is as if there had been none, as long as
// its child has not come to its program.
func TestTicket(t *testing.T) {
	testutil.CheckLeaks(t)
	args := testutil.ChildArgs(t, "exit", "7")
	spec := launch.Spec{Path: args[0], Args: args, Files: []int{-1, -1, 2}}
	var fds []int
	receive := func(c *conn) launch.Spec {
		m, got, err := c.receive()
		fds = got
		if !assert.NoError(t, err) {
			return launch.Spec{}
		}
		s, err := launch.Unmarshal(m.Spec, m.Files, nil)
		assert.NoError(t, err)
		return s
	}
	start := func(s launch.Spec) (*launch.Child, error) {
		p, err := launch.Compile(s)
		require.NoError(t, err)
		return p.Start(deadline(t))
	}
	launched := func(act func(c *conn)) (*launch.Child, Process, error) {
		return posed(t, act).Launch(deadline(t), "x", &spec, -1)
	}

	_, _, err := launched(func(*conn) {})
	require.ErrorIs(t, err, ErrNone, "it is not read")

	late := launch.Spec{}
	_, _, err = launched(func(c *conn) { late = receive(c) })
	require.ErrorIs(t, err, ErrNone, "it is read")
	var step *launch.StepError
	_, err = start(late)
	require.ErrorAs(t, err, &step, "its child is on its way")
	assert.Equal(t, unix.EAGAIN, step.Err)
	assert.Contains(t, step.Step, "<ticket>")
	closeAll(fds)

	_, _, err = launched(func(c *conn) {
		child, err := start(receive(c))
		if assert.NoError(t, err) {
			_, err = child.Wait()
			assert.NoError(t, err)
			assert.NoError(t, child.PIDFD.Close())
		}
		closeAll(fds)
	})
	require.ErrorIs(t, err, ErrLost, "its child has run")
	require.ErrorIs(t, err, ErrGone)

	// One that has told of its child has launched it, whatever becomes of itself.
	self, err := sys.PidfdOpen(os.Getpid())
	require.NoError(t, err)
	defer self.Close()
	child, p, err := launched(func(c *conn) {
		receive(c)
		closeAll(fds)
		assert.NoError(t, c.send(&message{Op: opReply, Process: Process{PID: 5, Inode: 6}, FD: self.Int()}))
	})
	require.NoError(t, err)
	assert.Equal(t, Process{PID: 5, Inode: 6}, p)
	require.NoError(t, child.PIDFD.Close())
}
