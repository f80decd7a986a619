// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
)

// Start starts a supervisor for the directory, which it makes if it is missing, and
// connects. The caller has found none there and keeps others from doing the same.
// group is where it is born, and what is stale of an earlier one is taken away.
//
// An error means that there is none.
func (c *Client) Start(ctx context.Context, args []string, group launch.Spec) (*launch.Child, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	fd, err := listen(c.dir, c.version)
	if err != nil {
		return nil, err
	}
	listener := sys.NewFD(fd)
	defer listener.Close()
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	group.Path, group.Args, group.Dir, group.Setsid = args[0], args, "/", true
	group.Env = []string{variable + "=" + c.dir}
	group.Files = []int{null, null, null, listenerFD: listener.Int()}
	program, err := launch.Compile(group)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	child, err := program.Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	// So that a connection breaks with the supervisor.
	if err = listener.Close(); err == nil {
		_, _, err = c.Connect(ctx)
	}
	if err == nil {
		return child, nil
	}
	_ = unix.PidfdSendSignal(child.PIDFD.Int(), unix.SIGKILL, nil, 0) // it may have ended
	st, werr := child.Wait()
	if errors.Is(err, ErrNone) {
		err = fmt.Errorf("%q is no supervisor: it ended with status %d (signal %d) and did not answer: %w",
			strings.Join(args, " "), st.Code, int(st.Signal), err)
	}
	return nil, errors.Join(err, werr, child.PIDFD.Close())
}

// listen makes the socket in place of a stale one.
func listen(dir string, version int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = inDir(dir, version, func(addr *unix.SockaddrUnix) error {
		// The mode is there with the name.
		if err := unix.Fchmod(fd, 0o600); err != nil {
			return os.NewSyscallError("fchmod", err)
		}
		if err := unix.Unlink(addr.Name); err != nil && err != unix.ENOENT {
			return os.NewSyscallError("unlink", err)
		}
		if err := unix.Bind(fd, addr); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, backlog))
	})
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("supervisor's socket in %s: %w", dir, err)
	}
	return fd, nil
}

// backlog is how many agents, and requests, a supervisor that is busy starting may
// have waiting.
const backlog = 128

// dial connects to the supervisor of that version, or is [ErrNone].
func dial(dir string, version int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = inDir(dir, version, func(addr *unix.SockaddrUnix) error { return unix.Connect(fd, addr) }); err == nil {
		return newConn(fd)
	}
	_ = unix.Close(fd)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED): // and that is stale
		return nil, ErrNone
	case errors.Is(err, unix.EAGAIN):
		return nil, fmt.Errorf("the supervisor at %s does not answer, and %d requests wait already: %w", dir, backlog, err)
	}
	return nil, fmt.Errorf("connect to the supervisor at %s: %w", dir, err)
}

// inDir gives f the socket's address by way of an open directory: an address has no
// room for a long path.
func inDir(dir string, version int, f func(*unix.SockaddrUnix) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(&unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(fd) + "/" + socketName(version)})
}

// socketVersion is the version of a supervisor by its socket's name.
func socketVersion(name string) (version int, ok bool) {
	number, ok := strings.CutPrefix(name, "socket.")
	version, err := strconv.Atoi(number)
	return version, ok && err == nil
}

// answerTime is how long a supervisor may take to say that it is there, whatever
// the caller's context allows: so that one that is stopped is an error.
const answerTime = 10 * time.Second

// Patient is ctx, which ends after that time at the latest.
func Patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, answerTime, fmt.Errorf("no answer in %v: %w", answerTime, context.DeadlineExceeded))
}
