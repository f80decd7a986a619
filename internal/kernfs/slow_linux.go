// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"context"
	"io"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// grace is how long a write that was interrupted is waited for. The kernel
// looks for signals between batches of pages, so it mostly takes less than a
// millisecond; one that waits for a disk does not look at all.
const grace = 200 * time.Millisecond

// A SlowWrite is one write(2) that may take the kernel long, on a thread of its
// own and through a descriptor of its own: the kernel locks an open file for the
// time of a write, and a reader of the same one would wait too.
type SlowWrite struct {
	path, data string
	done       chan struct{}
	err        error // set before done is closed

	mu          sync.Mutex
	tid         int // the thread that is about to write, writes, or has just written; else 0
	interrupted bool
}

// StartWrite begins to write data to the existing file name. flag is 0 or
// unix.O_NONBLOCK, with which newer kernels only set a limit and leave it to
// others to reclaim.
func (d *Dir) StartWrite(name, data string, flag int) (*SlowWrite, error) {
	if d.fake != nil {
		return d.fakeStartWrite(name, data)
	}
	fd, err := d.openat(name, unix.O_WRONLY|flag)
	if err != nil {
		return nil, &FileError{Op: "write", Path: d.Join(name), Data: data, Err: err}
	}
	w := &SlowWrite{path: d.Join(name), data: data, done: make(chan struct{})}
	go w.run(fd)
	return w, nil
}

func (w *SlowWrite) run(fd int) {
	defer close(w.done)
	defer unix.Close(fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.at(unix.Gettid())
	defer w.at(0)
	b := unsafe.Slice(unsafe.StringData(w.data), len(w.data)) // write(2) only reads it
	n, err := 0, error(unix.EINTR)
	// The runtime's own signals interrupt too.
	for err == unix.EINTR && !w.given() {
		n, err = unix.Write(fd, b)
	}
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = &FileError{Op: "write", Path: w.path, Data: w.data, Err: err}
	}
}

func (w *SlowWrite) at(tid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tid = tid
}

// given reports whether the write is to be given up.
func (w *SlowWrite) given() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.interrupted
}

// Interrupt asks the kernel to stop reclaiming, and returns at once. SIGURG is
// the signal that the Go runtime sends its own threads all the time and expects
// to be of no effect. A thread that has not entered the call yet does not feel
// it, so callers who wait ask again.
func (w *SlowWrite) Interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupted = true
	if w.tid != 0 {
		_ = unix.Tgkill(unix.Getpid(), w.tid, unix.SIGURG)
	}
}

// Done is closed when the write is over.
func (w *SlowWrite) Done() <-chan struct{} { return w.done }

// Wait returns the write's error when it is over. When ctx ends first the write
// is interrupted and, after a moment of grace, left to itself: over is false
// then, and the error that of ctx.
//
// An interrupted write may have done its work: EINTR says that it has not, and
// nil that the file holds the value, though perhaps more is in use.
func (w *SlowWrite) Wait(ctx context.Context) (over bool, err error) {
	select {
	case <-w.done:
		return true, w.err
	case <-ctx.Done():
	}
	for pause, waited := time.Millisecond, time.Duration(0); waited < grace; pause *= 2 {
		w.Interrupt()
		t := time.NewTimer(pause)
		select {
		case <-w.done:
			t.Stop()
			return true, w.err
		case <-t.C:
		}
		waited += pause
	}
	return false, context.Cause(ctx)
}
