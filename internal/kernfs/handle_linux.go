// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle owns a descriptor and counts the calls inside it, so that its number
// is never closed, and given to another file, under a call that runs.
type handle struct {
	fd    int32        // -1 of a fake
	state atomic.Int32 // two for each call inside; odd once closed
	fake  FakeFile     // to close instead
}

// enter returns the number, valid until leave, or ErrClosed.
func (h *handle) enter() (int, error) {
	for {
		s := h.state.Load()
		if s&1 != 0 {
			return -1, os.ErrClosed
		}
		if h.state.CompareAndSwap(s, s+2) {
			return int(h.fd), nil
		}
	}
}

func (h *handle) leave() {
	if h.state.Add(-2) == 1 {
		_ = h.free()
	}
}

// close lets the calls inside end and nobody else in.
func (h *handle) close() error {
	for {
		s := h.state.Load()
		switch {
		case s&1 != 0:
			return nil
		case !h.state.CompareAndSwap(s, s|1):
			continue
		case s == 0:
			return h.free()
		}
		return nil
	}
}

func (h *handle) free() error {
	if h.fd < 0 {
		if h.fake != nil {
			h.fake.Close()
		}
		return nil
	}
	// close(2): the descriptor is gone even when the call reports EINTR.
	if err := unix.Close(int(h.fd)); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// number is the descriptor, or -1 once closed.
func (h *handle) number() int {
	if h.state.Load()&1 != 0 {
		return -1
	}
	return int(h.fd)
}
