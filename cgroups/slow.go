// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// ErrBlocked is matched by errors that say the kernel still works on a write
// that was given up.
var ErrBlocked = errors.New("still inside the kernel")

// BlockedError says that a write did not return when its context ended and not
// when it was interrupted either: the kernel waits for something that knows no
// signals, such as a disk or a frozen file system. The write goes on on a thread
// of its own, which ends with it. It is one a file at most: a further write to
// the same file waits for it. What the file holds is not known before. It
// matches [ErrBlocked].
type BlockedError struct {
	Path, Data string
	Err        error // why it was not waited for any longer
}

// Error reads `write "x" to /sys/...: still inside the kernel: context deadline
// exceeded`.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("write %q to %s: %v: %v", e.Data, e.Path, ErrBlocked, e.Err)
}

// Is reports whether target is [ErrBlocked].
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Unwrap gives the reason.
func (e *BlockedError) Unwrap() error { return e.Err }

// slowWrites are the writes to a group's files in one tree that may take the
// kernel long, one a file.
// Those that are over stay until the next to the same file.
type slowWrites struct {
	mu   sync.Mutex
	last map[string]*kernfs.SlowWrite // by file
}

// write does one write to a file of n. If ctx ends first it is interrupted.
func (s *slowWrites) write(ctx context.Context, n *node, file, data string, flag int) error {
	path := n.dir.Join(file)
	w, err := s.begin(ctx, n, file, data, flag)
	if err != nil {
		return err
	}
	over, err := w.Wait(ctx)
	if !over {
		return &BlockedError{Path: path, Data: data, Err: err}
	}
	if err == nil || ctx.Err() == nil {
		return n.failed(err)
	}
	return fmt.Errorf("%w: %w", n.failed(err), context.Cause(ctx))
}

// begin starts the write once there is no other to the same file.
func (s *slowWrites) begin(ctx context.Context, n *node, file, data string, flag int) (*kernfs.SlowWrite, error) {
	path := n.dir.Join(file)
	for {
		s.mu.Lock()
		before := s.last[file]
		if before == nil || isOver(before) {
			w, err := n.dir.StartWrite(file, data, flag)
			if err == nil {
				if s.last == nil {
					s.last = make(map[string]*kernfs.SlowWrite)
				}
				s.last[file] = w
			}
			s.mu.Unlock()
			return w, n.failed(err)
		}
		s.mu.Unlock()
		select {
		case <-before.Done():
		case <-ctx.Done():
			return nil, &BlockedError{Path: path, Data: data, Err: fmt.Errorf("waiting for an earlier write: %w", context.Cause(ctx))}
		}
	}
}

func isOver(w *kernfs.SlowWrite) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}

// interrupt asks all to return and gives those that have not yet. Removing a
// group waits for writes to its files, with the lock of all cgroups held.
func (s *slowWrites) interrupt() (left []*kernfs.SlowWrite) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.last {
		if !isOver(w) {
			w.Interrupt()
			left = append(left, w)
		}
	}
	return left
}

// end interrupts all until they are over.
func (s *slowWrites) end(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if len(s.interrupt()) == 0 {
			return nil
		}
		if err := rest(ctx, pause); err != nil {
			return fmt.Errorf("a write to the group is %w: %w", ErrBlocked, err)
		}
	}
}
