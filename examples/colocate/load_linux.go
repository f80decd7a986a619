// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"time"
	"unsafe"
)

// pollFD is struct pollfd of poll(2).
type pollFD struct {
	fd      int32
	events  int16
	revents int16
}

const (
	pollIn  = 0x1
	pollOut = 0x4
)

// drive sends to the service's socket and reports each second to out, until
// something fails. It never returns nil.
func (l *load) drive(service, out int) error {
	// Sleeps end when they are due, not up to 50 us later (PR_SET_TIMERSLACK of
	// prctl(2)).
	const prSetTimerslack = 29
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0); errno != 0 {
		return errno
	}
	l.due = make([]time.Duration, 0, mostDue)
	in := make([]byte, 1<<16)
	start := time.Now()
	for next := time.Duration(0); ; {
		now := time.Since(start)
		for ; next <= now; next += l.gaps[l.sent%len(l.gaps)] {
			if len(l.due) == mostDue {
				return syscall.ETIMEDOUT
			}
			l.due = append(l.due, next)
			l.unsent = append(l.unsent, l.request...)
			l.sent++
		}
		if len(l.unsent) > 0 {
			n, err := call(syscall.SYS_WRITE, service, l.unsent)
			if err != nil {
				return err
			}
			l.unsent = l.unsent[:copy(l.unsent, l.unsent[n:])]
		}
		n, err := call(syscall.SYS_READ, service, in)
		if err != nil {
			return err
		}
		if err := l.answered(in[:n], time.Since(start)); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if line, ok := l.told(); ok {
			if err := writeAll(out, line); err != nil {
				return err
			}
			continue
		}
		p := pollFD{fd: int32(service), events: pollIn}
		if len(l.unsent) > 0 {
			p.events |= pollOut
		}
		ts := syscall.NsecToTimespec(int64(max(0, next-time.Since(start))))
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL,
			uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != 0 && errno != syscall.EINTR {
			return errno
		}
	}
}

// call reads or writes what is possible now.
func call(number uintptr, fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return 0, nil
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, syscall.EPIPE
	}
	return int(n), nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := call(syscall.SYS_WRITE, fd, b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
