// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// low is a number below which a descriptor is worth nothing to move.
const low = 64

// LowFDs lends descriptors with low numbers, which are reserved early, to files
// with high ones: a child that is to get them then need not copy the part of the
// table in between. It is safe for concurrent use.
type LowFDs struct {
	null int

	mu   sync.Mutex
	free [][]int // each a set of reserved numbers, which /dev/null holds
}

// NewLowFDs reserves the first numbers.
func NewLowFDs() (*LowFDs, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	l := &LowFDs{null: null}
	set, err := l.reserve(nil, 3)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.free = append(l.free, set)
	return l, nil
}

// Null is /dev/null, open for reading and writing until Close.
func (l *LowFDs) Null() int { return l.null }

// Lend returns fds with the high numbers replaced by low ones of the same files;
// -1 stays. The caller calls done once the child has them.
func (l *LowFDs) Lend(fds []int) (lent []int, done func(), err error) {
	high := 0
	for _, fd := range fds {
		if fd >= low {
			high++
		}
	}
	if high == 0 {
		return fds, func() {}, nil
	}
	set, err := l.take(high)
	if err != nil {
		return nil, nil, err
	}
	used := 0
	done = func() {
		for _, fd := range set[:used] {
			_ = dup3(l.null, fd) // both are open, so it does not fail
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.free = append(l.free, set)
	}
	lent = slices.Clone(fds)
	for i, fd := range fds {
		if fd < low {
			continue
		}
		if err := dup3(fd, set[used]); err != nil {
			done()
			return nil, nil, os.NewSyscallError("dup3", err)
		}
		lent[i] = set[used]
		used++
	}
	return lent, done, nil
}

// take returns a set of at least n numbers.
func (l *LowFDs) take(n int) ([]int, error) {
	l.mu.Lock()
	var set []int
	if last := len(l.free) - 1; last >= 0 {
		set, l.free = l.free[last], l.free[:last]
	}
	l.mu.Unlock()
	set, err := l.reserve(set, n)
	if err != nil {
		l.mu.Lock()
		l.free = append(l.free, set)
		l.mu.Unlock()
		return nil, err
	}
	return set, nil
}

// reserve makes set at least n numbers long; what it has so far is returned
// with an error too.
func (l *LowFDs) reserve(set []int, n int) ([]int, error) {
	for len(set) < n {
		fd, err := unix.FcntlInt(uintptr(l.null), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return set, os.NewSyscallError("fcntl", err)
		}
		set = append(set, fd)
	}
	return set, nil
}

// Close frees all of them. Nothing may be lent.
func (l *LowFDs) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, set := range append(l.free, []int{l.null}) {
		for _, fd := range set {
			errs = append(errs, closeFD(fd))
		}
	}
	l.free = nil
	return errors.Join(errs...)
}

func dup3(from, to int) error {
	for {
		if err := unix.Dup3(from, to, unix.O_CLOEXEC); err != unix.EINTR && err != unix.EBUSY {
			return err
		}
	}
}
