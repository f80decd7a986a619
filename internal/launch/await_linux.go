// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AwaitExit blocks a thread until the process of pidfd has ended, bell can be read
// or patience is over, and reports whether the process has ended. Both descriptors
// must stay open meanwhile.
//
// The scheduler gives the thread's P away at once, as for a launch: a processor that
// looks busy would have the runtime's monitor look after it every few microseconds.
func AwaitExit(pidfd, bell int, patience time.Duration) (ended bool) {
	fds := [2]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(bell), Events: unix.POLLIN}}
	left := unix.NsecToTimespec(int64(max(patience, 0)))
	for { // the kernel takes from left what has passed
		if _, errno := ppoll(&fds, &left); errno != unix.EINTR {
			return errno == 0 && fds[0].Revents&unix.POLLIN != 0
		}
	}
}

// ppoll is ppoll(2). Nothing between the two runtime calls may grow the stack.
//
//go:nosplit
//go:norace
func ppoll(fds *[2]unix.PollFd, left *unix.Timespec) (n uintptr, errno syscall.Errno) {
	entersyscallblock()
	n, _, errno = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(fds)), uintptr(len(fds)), uintptr(unsafe.Pointer(left)), 0, 0, 0)
	exitsyscall()
	return n, errno
}
