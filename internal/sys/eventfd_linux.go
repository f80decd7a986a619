// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewEventFD makes an eventfd(2) with count 0 that does not block.
func NewEventFD() (*FD, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	return NewFD(fd), nil
}

// RingEventFD makes an eventfd made by [NewEventFD] ready.
func RingEventFD(f *FD) error {
	var one [8]byte
	*(*uint64)(unsafe.Pointer(&one)) = 1
	for {
		switch _, err := unix.Write(f.Int(), one[:]); err {
		case nil, unix.EAGAIN: // EAGAIN: it is ready 2^64-2 times over
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("write eventfd", err)
		}
	}
}

// DrainEventFD resets the count of an eventfd made by [NewEventFD] and returns
// what it was.
func DrainEventFD(f *FD) (uint64, error) {
	fd := f.Int()
	if fd < 0 {
		return 0, os.ErrClosed
	}
	var n uint64
	buf := (*[8]byte)(unsafe.Pointer(&n))
	for {
		switch _, err := unix.Read(fd, buf[:]); err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("read eventfd", err)
		}
	}
}
