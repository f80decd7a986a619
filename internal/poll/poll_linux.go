// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// The token of the Poller's own descriptor, and the first of the others.
const (
	wakeToken Token = iota
	firstToken
)

// Poller is a set of descriptors that one goroutine waits for. All methods but
// Wait may be called from any goroutine, also from functions that Wait calls.
type Poller struct {
	epoll, wake *sys.FD
	tick        func()
	turn        sync.Mutex // held while a function of somebody's runs

	mu      sync.Mutex
	timer   *time.Timer // nil until the first Arm
	due     time.Time   // when the timer is to run out; zero if it is not
	entries map[Token]entry
	next    Token
	waiting bool // a Wait is under way; it frees the descriptors if closed meanwhile
	closed  bool

	ready [128]unix.EpollEvent // of the Wait under way
}

type entry struct {
	fd   int
	once bool
	fn   func(Events)
}

// New makes a Poller, which holds two descriptors. tick is called when the timer
// set by Arm runs out, whether or not somebody waits; it may be nil if nobody calls
// Arm.
func New(tick func()) (*Poller, error) {
	p := &Poller{tick: tick, entries: make(map[Token]entry), next: firstToken}
	if err := p.open(); err != nil {
		_ = p.free()
		return nil, err
	}
	return p, nil
}

func (p *Poller) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	p.epoll = sys.NewFD(fd)
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd2", err)
	}
	p.wake = sys.NewFD(fd)
	return p.control(unix.EPOLL_CTL_ADD, p.wake.Int(), In, wakeToken)
}

func (p *Poller) free() error {
	return errors.Join(p.epoll.Close(), p.wake.Close())
}

func (p *Poller) control(op, fd int, events Events, t Token) error {
	ev := unix.EpollEvent{
		Events: uint32(events) | unix.EPOLLET,
		Fd:     int32(uint32(t)), // the kernel keeps 64 bits of ours: Fd and Pad
		Pad:    int32(uint32(t >> 32)),
	}
	if err := unix.EpollCtl(p.epoll.Int(), op, fd, &ev); err != nil {
		return fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}

// Add makes Wait call fn at each change of fd that events names, and once soon
// if fd is ready now. The descriptor stays the caller's and must stay open
// until Remove has returned or, with [Once], fn is called.
//
// fn runs inside Wait and must not block: every other descriptor waits for it.
//
// Returns [os.ErrClosed] after Close, EPERM for a file that cannot be polled
// and EEXIST for a descriptor that is already added.
func (p *Poller) Add(fd int, events Events, fn func(Events)) (Token, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, os.ErrClosed
	}
	t := p.next
	if err := p.control(unix.EPOLL_CTL_ADD, fd, events, t); err != nil {
		return 0, err
	}
	p.next++
	p.entries[t] = entry{fd: fd, once: events&Once != 0, fn: fn}
	return t, nil
}

// Remove ends a registration: its function is not called any more. It does not
// wait for a call that has begun. Removing a token twice, or after its single
// event, is nil.
func (p *Poller) Remove(t Token) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(t)
}

// remove takes t out of the set. The caller holds mu; the descriptor is open
// by Add's contract.
func (p *Poller) remove(t Token) error {
	e, ok := p.entries[t]
	if !ok {
		return nil
	}
	delete(p.entries, t)
	if p.closed {
		return nil
	}
	return p.control(unix.EPOLL_CTL_DEL, e.fd, 0, 0)
}

// Arm sets the timer to run out once, after d. Zero or less stops it.
func (p *Poller) Arm(d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.due = time.Time{}
	if d <= 0 {
		return nil
	}
	p.due = time.Now().Add(d)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.ring)
	} else {
		p.timer.Reset(d)
	}
	return nil
}

// ring calls tick, unless the timer was set anew or stopped since it ran out.
func (p *Poller) ring() {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	rings := !p.closed && !p.due.IsZero() && !time.Now().Before(p.due)
	if rings {
		p.due = time.Time{}
	}
	p.mu.Unlock()
	if rings {
		p.tick()
	}
}

// Wait blocks until something is ready, calls the functions of what is, and
// returns. Only one goroutine may be in it at a time.
//
// Returns [os.ErrClosed] once the Poller is closed, also by one of the
// functions.
func (p *Poller) Wait() error {
	p.mu.Lock()
	if p.closed || p.waiting {
		p.mu.Unlock()
		if p.closed {
			return os.ErrClosed
		}
		return errors.New("poll: two goroutines wait")
	}
	p.waiting = true
	p.mu.Unlock()

	n, err := unix.EpollWait(p.epoll.Int(), p.ready[:], -1)
	for i := range max(n, 0) {
		p.dispatch(&p.ready[i])
	}
	// What the functions made runnable is in this thread's queue, where it
	// would stay until somebody notices that the thread blocks again.
	runtime.Gosched()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = false
	if p.closed {
		_ = p.free()
		return os.ErrClosed
	}
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("epoll_wait", err)
	}
	return nil
}

func (p *Poller) dispatch(ev *unix.EpollEvent) {
	p.turn.Lock()
	defer p.turn.Unlock()
	t := Token(uint32(ev.Fd)) | Token(uint32(ev.Pad))<<32
	p.mu.Lock()
	e, ok := p.entries[t]
	if ok && e.once {
		_ = p.remove(t) // ENOENT at most, and then it is what was wanted
	}
	ok = ok && !p.closed
	p.mu.Unlock()
	if ok {
		e.fn(Events(ev.Events))
	}
}

// Close ends the Poller and makes Wait return [os.ErrClosed]. No function
// begins after it; it does not wait for one that runs, so it may be called from
// one. Descriptors that were added stay open. Closing twice is nil.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	clear(p.entries)
	if !p.waiting {
		return p.free()
	}
	_, err := unix.Write(p.wake.Int(), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return os.NewSyscallError("write", err)
}
