// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"context"

	"golang.org/x/sys/unix"
)

// Wait returns when the kernel announces that the file has changed since it was
// last read through f, or that it is gone, or when ctx ends, with its error. It
// works for files that announce changes: cgroup.events and memory.events, not
// v1's. It holds a thread in poll(2), so it is for waits that end soon.
func (f *File) Wait(ctx context.Context) error {
	_, err := f.WaitOr(ctx, -1)
	return err
}

// WaitOr is Wait, but returns also, and says so, when the descriptor other is
// readable; -1 is none.
func (f *File) WaitOr(ctx context.Context, other int) (readable bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if f.handle.fake != nil {
		return false, f.fakeWait(ctx)
	}
	fd, err := f.handle.enter()
	if err != nil {
		return false, &FileError{Op: "poll", Path: f.Path(), Err: err}
	}
	defer f.handle.leave()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(other), Events: unix.POLLIN}}
	if ctx.Done() != nil {
		wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return false, &FileError{Op: "poll", Path: f.Path(), Err: err}
		}
		woken := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(woken)
			_ = retry(func() error { _, err := unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 1}); return err })
		})
		defer func() {
			if !stop() {
				<-woken // it still needs the descriptor
			}
			_ = unix.Close(wake)
		}()
		fds = append(fds, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	}
	if err := retry(func() error { _, err := unix.Poll(fds, -1); return err }); err != nil {
		return false, &FileError{Op: "poll", Path: f.Path(), Err: err}
	}
	readable = fds[1].Revents != 0
	if readable || fds[0].Revents != 0 {
		return readable, nil
	}
	return false, ctx.Err()
}
