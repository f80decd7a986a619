// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"sync/atomic"
)

// FD owns one file descriptor. The zero FD is closed. It is safe for use by
// many goroutines, but as with any descriptor the owner must not close it while
// somebody else is inside a system call on its number.
type FD struct {
	n atomic.Int64 // descriptor + 1; 0 is closed
}

// NewFD takes ownership of the descriptor fd, which must be open and
// close-on-exec.
func NewFD(fd int) *FD {
	f := &FD{}
	f.n.Store(int64(fd) + 1)
	return f
}

// Int returns the number, or -1 once closed. The number stays valid only as
// long as the FD is not closed.
func (f *FD) Int() int {
	if f == nil {
		return -1
	}
	return int(f.n.Load()) - 1
}

// Take hands the number out and leaves the FD closed: the caller owns it now.
func (f *FD) Take() (int, error) {
	n := f.n.Swap(0)
	if n == 0 {
		return -1, os.ErrClosed
	}
	return int(n) - 1, nil
}

// Close closes the descriptor. Closing a closed FD is nil.
func (f *FD) Close() error {
	if f == nil {
		return nil
	}
	n := f.n.Swap(0)
	if n == 0 {
		return nil
	}
	return closeFD(int(n) - 1)
}
