// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	chunk     = 256 << 10 // read at once
	punchEach = 1 << 20   // holes are punched in multiples of this
)

// Log takes over what one workload writes. It is safe for concurrent use.
type Log struct {
	keeper  *Keeper
	name    string
	cfg     Config
	watches []int32

	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
	packing sync.WaitGroup
	pumping sync.WaitGroup
	pipes   [2]*pipe // nil where the workload does not wait

	mu      sync.Mutex // held while lines are taken over
	streams [2]*os.File
	punched [2]int64
	states  *os.File
	out     *os.File
	state   state
	bucket  bucket
	buf     []byte
	lines   []byte
	err     error
	closed  bool
}

func (l *Log) path(file string) string { return filepath.Join(l.keeper.root, l.name, file) }

func openLog(k *Keeper, name string, c Config) (*Log, error) {
	l := &Log{
		keeper: k, name: name, cfg: c, bucket: newBucket(c.Rate),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.closePipes(), l.closeFiles())
	}
	return l, nil
}

// reopened is the mode of what a workload writes to: it may open it again, as
// /dev/stdout, whoever it runs as. By their paths nobody else finds the files, since
// the directory is the keeper's alone.
const reopened = 0o622

const openFlags = os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW

func (l *Log) open() (err error) {
	if err = os.MkdirAll(l.path(""), 0o700); err != nil {
		return err
	}
	if l.states, err = os.OpenFile(l.path(stateName), openFlags, 0o600); err != nil {
		return err
	}
	if l.state, err = readState(l.states); err != nil {
		return err
	}
	for s := range l.streams {
		if l.streams[s], err = os.OpenFile(l.path(Stream(s).String()), openFlags, 0o600); err != nil {
			return err
		}
		if err = l.streams[s].Chmod(reopened); err != nil {
			return err
		}
		if l.cfg.Block {
			if err = l.openPipe(Stream(s)); err != nil {
				return err
			}
		}
	}
	if err = l.tidy(); err != nil {
		return err
	}
	return l.begin()
}

// Files opens what becomes the workload's standard output and error. The caller
// closes them once it has been started.
func (l *Log) Files() (stdout, stderr *os.File, err error) {
	if stdout, err = l.file(Stdout); err != nil {
		return nil, nil, err
	}
	if stderr, err = l.file(Stderr); err != nil {
		return nil, nil, errors.Join(err, stdout.Close())
	}
	return stdout, stderr, nil
}

func (l *Log) file(s Stream) (*os.File, error) {
	if l.pipes[s] != nil {
		return l.pipeFile(s)
	}
	return os.OpenFile(l.path(s.String()), os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
}

// poke has the log look for lines. It does not block.
func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// retry is how soon a log looks again that could not write.
const retry = time.Second

func (l *Log) run() {
	defer close(l.done)
	var again <-chan time.Time
	for {
		select {
		case <-l.stop:
			return
		case <-l.wake:
		case <-again:
		}
		again = nil
		for more := true; more; {
			var err error
			if more, err = l.round(false); err != nil {
				again = time.After(retry)
			}
			select {
			case <-l.stop:
				return
			default:
			}
		}
	}
}

// round takes over a chunk of each stream, and reports whether there may be more.
// last says that lines without an end have none.
func (l *Log) round(last bool) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, os.ErrClosed
	}
	for s := range l.streams {
		m, serr := l.takeSome(Stream(s), last)
		err = errors.Join(err, serr)
		more = more || m
	}
	l.err = err
	return more && err == nil, err
}

// takeSome takes over one chunk of a stream.
func (l *Log) takeSome(s Stream, last bool) (more bool, err error) {
	f, next := l.streams[s], l.state
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	at := &next.At[s]
	if info.Size() < *at { // the workload has cut it off
		*at, l.punched[s] = 0, 0
	}
	if ahead := info.Size() - *at; ahead > l.cfg.Backlog && l.pipes[s] == nil {
		skipped := ahead - l.cfg.Backlog/2
		next.DroppedBytes += uint64(skipped)
		*at += skipped
	}
	if l.buf == nil {
		l.buf = make([]byte, chunk)
	}
	n, err := f.ReadAt(l.buf, *at)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	text := l.buf[:n]
	last = last && n < chunk
	l.lines = l.lines[:0]
	now := time.Now()
	for len(text) > 0 {
		line, partial, n := cut(text, last)
		if n == 0 {
			break
		}
		text = text[n:]
		*at += int64(n)
		if !l.bucket.take(int64(n), now) {
			next.DroppedLines++
			next.DroppedBytes += uint64(n)
			continue
		}
		next.Lines++
		next.Bytes += uint64(n)
		l.lines = l.cfg.Format.append(l.lines, Line{Time: now, Stream: s, Partial: partial, Text: line})
	}
	if next == l.state {
		return false, nil
	}
	if err := l.commit(next, now); err != nil {
		return false, err
	}
	l.pipes[s].freed()
	return *at < info.Size() || n == chunk, l.reclaim(s)
}

// commit writes the lines, and then that they count.
func (l *Log) commit(next state, now time.Time) error {
	if len(l.lines) > 0 {
		full := next.Size+int64(len(l.lines)) > l.cfg.MaxSize
		old := l.cfg.MaxAge > 0 && next.Begun > 0 && now.UnixNano()-next.Begun > int64(l.cfg.MaxAge)
		if next.Size > 0 && (full || old) {
			if err := l.rotate(&next); err != nil {
				return err
			}
		}
		if next.Begun == 0 {
			next.Begun = now.UnixNano()
		}
		if _, err := l.out.WriteAt(l.lines, next.Size); err != nil {
			return err
		}
		next.Size += int64(len(l.lines))
	}
	return l.save(next)
}

func (l *Log) save(next state) error {
	b, err := next.encode()
	if err == nil {
		_, err = l.states.WriteAt(b, 0)
	}
	if err == nil {
		l.state = next
	}
	return err
}

// reclaim gives back the space of what was taken over.
func (l *Log) reclaim(s Stream) error {
	to := l.state.At[s] &^ (punchEach - 1)
	if to <= l.punched[s] {
		return nil
	}
	err := punch(l.streams[s], l.punched[s], to)
	if err == nil {
		l.punched[s] = to
	}
	return err
}

// Sync takes over everything that was written before it was called.
func (l *Log) Sync() error { return l.flush(false) }

// Finish is Sync once nobody writes any more: the last line counts also without
// an end.
func (l *Log) Finish() error { return l.flush(true) }

func (l *Log) flush(last bool) error {
	for left := int64(2 * inPipe); ; left -= l.cfg.Backlog {
		full, err := l.drain()
		if err == nil {
			err = l.flushFiles(last && !full)
		}
		if err != nil || !full || left <= 0 {
			return err
		}
	}
}

// flushFiles is flush without what is still in the pipes.
func (l *Log) flushFiles(last bool) error {
	var until [2]int64
	for s, f := range l.streams {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		until[s] = info.Size()
	}
	for {
		more, err := l.round(last)
		if err != nil || !more || l.reached(until) {
			return err
		}
	}
}

func (l *Log) reached(until [2]int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.At[0] >= until[0] && l.state.At[1] >= until[1]
}

// Stats counts what was taken over and what was dropped.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Stats
}

// Err is why nothing is taken over at present, a full disk for example; nil if all
// is well. It is tried again every second.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pipes {
		if p != nil && p.err != nil && l.err == nil {
			return p.err
		}
	}
	return l.err
}

// Close stops taking over. The workload can go on writing, and the next Open goes
// on from here. Closing twice is nil.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		<-l.done
		return nil
	}
	close(l.stop)
	<-l.done
	perr := l.closePipes()
	l.packing.Wait()
	l.keeper.mu.Lock()
	l.forget()
	l.keeper.mu.Unlock()
	return errors.Join(perr, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range append(l.streams[:], l.states, l.out) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Lines goes through the lines of the log, the oldest first, and then on to those
// that come, until ctx ends. See [Follow].
func (l *Log) Lines(ctx context.Context) iter.Seq2[Line, error] {
	return Follow(ctx, l.path(""), l.cfg.Format)
}
