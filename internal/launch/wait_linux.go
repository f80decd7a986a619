// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Wait blocks a thread until the child has ended, reaps it and returns how it
// went. To wait for many, poll PIDFD for reading and call [Child.Reap].
//
// Wait and Reap give an error wrapping ECHILD if somebody else has reaped the
// child, as wait4(-1) does, or SIGCHLD is ignored: then nobody can know.
func (c *Child) Wait() (Status, error) {
	s, _, err := c.wait(0)
	return s, err
}

// Reap is Wait for a child that may not have ended: then ended is false and
// nothing happens.
func (c *Child) Reap() (s Status, ended bool, err error) { return c.wait(unix.WNOHANG) }

func (c *Child) wait(options int) (Status, bool, error) {
	var info unix.Siginfo
	var used unix.Rusage
	// __WALL: until execve the child's exit signal is 0, so that nobody else
	// reaps a failed launch.
	for {
		err := unix.Waitid(unix.P_PIDFD, c.PIDFD.Int(), &info, unix.WEXITED|unix.WALL|options, &used)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Status{}, false, os.NewSyscallError("waitid", err)
		}
		break
	}
	if info.Signo == 0 { // WNOHANG, and nothing yet
		return Status{}, false, nil
	}
	// si_pid, si_uid and si_status follow the three words and their padding.
	status := *(*int32)(unsafe.Add(unsafe.Pointer(&info), 24))
	s := Status{
		User:   time.Duration(used.Utime.Nano()),
		System: time.Duration(used.Stime.Nano()),
	}
	const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED
	switch info.Code {
	case exited:
		s.Code = int(status)
	default:
		s.Code, s.Signal, s.CoreDumped = -1, syscall.Signal(status), info.Code == dumped
	}
	return s, true, nil
}
