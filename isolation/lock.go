// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// rootLock keeps hosts on one state directory apart. An exclusive host holds
// the lock file alone for its life; shared ones hold it together, and take a
// second lock for each operation.
type rootLock struct {
	life   *os.File
	shared bool
	turn   string // path of the operations' lock file
}

func lockRoot(root string, shared bool) (*rootLock, error) {
	path := filepath.Join(root, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	if err := flock(f, how|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w: another host has %s; several need Config.Shared, each", ErrLocked, path)
		}
		return nil, err
	}
	return &rootLock{life: f, shared: shared, turn: filepath.Join(root, "turn")}, nil
}

// operation waits for the turn of one operation. An exclusive host always has
// it.
func (l *rootLock) operation(ctx context.Context) (done func(), err error) {
	if !l.shared {
		return func() {}, nil
	}
	f, err := os.OpenFile(l.turn, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	got := make(chan struct{})
	// flock(2) knows no deadline. When ctx ends first, the goroutine ends as
	// soon as the other process's operation does, and gives the lock up.
	go func() {
		defer close(got)
		err = flock(f, syscall.LOCK_EX)
	}()
	select {
	case <-got:
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return func() { _ = f.Close() }, nil
	case <-ctx.Done():
		go func() {
			<-got
			_ = f.Close()
		}()
		return nil, fmt.Errorf("waiting for another process at %s: %w", l.turn, context.Cause(ctx))
	}
}

// remove deletes the lock files, which only makes sense when nothing else is
// in the directory.
func (l *rootLock) remove() error {
	dir := filepath.Dir(l.turn)
	var errs []error
	for _, path := range []string{
		l.turn, l.life.Name(), filepath.Join(dir, journalName), filepath.Join(dir, olderName), filepath.Join(dir, "sandboxes"), dir,
	} {
		// The directory may have been the caller's, with files of its own.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *rootLock) close() error { return l.life.Close() }

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}
