// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// pipe is what a workload that is to wait writes to in the place of a file: a named
// pipe, so that the next keeper finds it, and what is in it.
type pipe struct {
	file *os.File
	room chan struct{} // something was taken over
	err  error         // why nothing is moved; the log's mu guards it
}

func pipeName(s Stream) string { return s.String() + ".pipe" }

// openPipe opens the pipe of a stream, and makes it if it is missing. It is open for
// writing too, so that it never ends.
func (l *Log) openPipe(s Stream) error {
	path := l.path(pipeName(s))
	if err := syscall.Mkfifo(path, 0o600); err != nil && err != syscall.EEXIST {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := file.Chmod(reopened); err != nil {
		return errors.Join(err, file.Close())
	}
	l.pipes[s] = &pipe{file: file, room: make(chan struct{}, 1)}
	return nil
}

// pipeFile is the workload's end of a pipe. It can be read from as well: a pipe
// without a reader would end the workload when its keeper dies.
func (l *Log) pipeFile(s Stream) (*os.File, error) {
	path := l.path(pipeName(s))
	// A file that the runtime polls does not block, for the workload neither.
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// pump moves what comes out of a pipe into the stream's file, until the log is
// closed.
func (l *Log) pump(s Stream) {
	defer l.pumping.Done()
	conn, err := l.pipes[s].file.SyscallConn()
	if err != nil {
		return // closed
	}
	timer := time.NewTimer(retry)
	defer timer.Stop()
	for {
		var full bool
		// It waits for something to be in the pipe as long as a move finds nothing.
		if err := conn.Read(func(fd uintptr) bool {
			var n int64
			n, full = l.move(s, int(fd))
			return full || n > 0
		}); err != nil {
			return // closed
		}
		if !full {
			l.poke()
			continue
		}
		timer.Reset(retry)
		select {
		case <-l.stop:
			return
		case <-l.pipes[s].room:
		case <-timer.C: // there may be room on the disk
		}
	}
}

// move moves a chunk at most, and reports whether there was no room for one, in the
// file or on the disk. What splice(2) has taken from the pipe it has written to the
// file: no death of this process comes between.
func (l *Log) move(s Stream, fd int) (n int64, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, true
	}
	p := l.pipes[s]
	info, err := l.streams[s].Stat()
	if err == nil {
		room := l.cfg.Backlog - (info.Size() - l.state.At[s])
		if room <= 0 {
			return 0, true
		}
		n, err = splice(fd, l.streams[s], info.Size(), min(room, chunk))
	}
	if err == syscall.EAGAIN {
		err = nil
	}
	p.err = err
	return n, err != nil
}

func splice(from int, to *os.File, at, most int64) (n int64, err error) {
	conn, err := to.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(fd uintptr) {
		const nonBlock = 2 // SPLICE_F_NONBLOCK
		for {
			n, err = syscall.Splice(from, nil, int(fd), &at, int(most), nonBlock)
			if err != syscall.EINTR {
				return
			}
		}
	})
	if cerr != nil {
		return 0, cerr
	}
	return max(n, 0), err
}

// inPipe is the most that a pipe has in it: 16 pages, which have up to 64 KiB.
const inPipe = 1 << 20

// drain moves what is in the pipes now, and reports whether there was no room for
// some of it.
func (l *Log) drain() (full bool, err error) {
	for s, p := range l.pipes {
		if p == nil {
			continue
		}
		conn, err := p.file.SyscallConn()
		if err != nil {
			return false, err
		}
		err = conn.Control(func(fd uintptr) {
			for left := int64(inPipe); left > 0; {
				n, f := l.move(Stream(s), int(fd))
				if n == 0 {
					full = full || f
					return
				}
				left -= n
			}
		})
		if err != nil {
			return false, err
		}
	}
	return full, nil
}

// freed tells the pump of a stream that there is room again.
func (p *pipe) freed() {
	if p == nil {
		return
	}
	select {
	case p.room <- struct{}{}:
	default:
	}
}

// closePipes ends the pumps.
func (l *Log) closePipes() error {
	var errs []error
	for _, p := range l.pipes {
		if p != nil {
			errs = append(errs, p.file.Close())
		}
	}
	l.pumping.Wait()
	return errors.Join(errs...)
}
