// SPDX-License-Identifier: Apache-2.0

package life

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
)

// Process is one that is held by its pidfd, so that nobody's signal or wait meets
// another one of its number, and no thread is blocked by waiting.
type Process struct {
	PID  int
	reap func() (syscall.WaitStatus, bool) // of a child; nil otherwise
	dead chan struct{}                     // closed once it has ended and is reaped
	over chan struct{}                     // closed once that was told, too

	inode, since uint64 // see linux.Identify

	mu     sync.Mutex
	pidfd  *sys.FD
	drop   func()
	status isolation.ExitStatus
	told   func(isolation.ExitStatus) // nil until somebody wants to know
}

// Hold takes charge of a process. reap waits for one that has ended, if it is a child
// that somebody else keeps account of. None of that number is fs.ErrNotExist.
func Hold(l *Lives, pid int, reap func() (syscall.WaitStatus, bool)) (*Process, error) {
	pidfd, err := sys.PidfdOpen(pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	p := &Process{PID: pid, reap: reap, dead: make(chan struct{}), over: make(chan struct{}), pidfd: pidfd}
	if p.inode, p.since, err = linux.Identify(pid, pidfd.Int()); err == nil {
		err = linux.Exists(pidfd.Int()) // what was read is about this one
	}
	if err == nil {
		p.mu.Lock() // it may end at once
		p.drop, err = l.engine.OnExit(pidfd.Int(), p.exited)
		p.mu.Unlock()
	}
	if err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	return p, nil
}

// Dead is closed once the process has ended and is reaped.
func (p *Process) Dead() <-chan struct{} { return p.dead }

// Tell has fn called once, when the process has ended.
func (p *Process) Tell(fn func(isolation.ExitStatus)) {
	p.mu.Lock()
	p.told = fn
	ended := isClosed(p.dead)
	st := p.status
	p.mu.Unlock()
	if ended {
		fn(st)
		close(p.over)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Signal sends sig to the process.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := error(syscall.ESRCH)
	if p.pidfd.Int() >= 0 {
		err = sys.PidfdSignal(p.pidfd.Int(), sig)
	}
	if errors.Is(err, syscall.ESRCH) {
		return &isolation.StateError{State: isolation.StateExited, Reason: noProcess}
	}
	return err
}

// exited runs once, on the engine's goroutine, and does not block: the process has
// ended.
func (p *Process) exited() {
	st := isolation.ExitStatus{At: time.Now()}
	if p.reap != nil {
		if ws, ok := p.reap(); ok {
			known(&st, ws)
		}
		p.finish(st)
		return
	}
	p.mu.Lock()
	pidfd, err := p.pidfd.Dup()
	p.mu.Unlock()
	if err != nil { // it was let go
		p.finish(st)
		return
	}
	// It may be a child after all: of this process as a subreaper, or of a driver in
	// it that was closed.
	child := &launch.Child{PIDFD: pidfd}
	if end, ended, err := child.Reap(); err == nil && ended {
		st.Known, st.Code, st.Signal = true, end.Code, int(end.Signal)
		_ = pidfd.Close()
		p.finish(st)
		return
	}
	go p.inherited(pidfd, st)
}

// reaperPatience is how long whoever has inherited the process may take to wait for
// it, after which the kernel tells (Linux 6.15).
const reaperPatience = time.Second

// inherited is for a process that is another's child. It owns pidfd.
func (p *Process) inherited(pidfd *sys.FD, st isolation.ExitStatus) {
	if ws, err := sys.PidfdExit(pidfd.Int(), reaperPatience); err == nil {
		known(&st, ws)
	}
	_ = pidfd.Close()
	p.finish(st)
}

func known(st *isolation.ExitStatus, ws syscall.WaitStatus) {
	st.Known, st.Code = true, ws.ExitStatus()
	if ws.Signaled() {
		st.Signal = int(ws.Signal())
	}
}

func (p *Process) finish(st isolation.ExitStatus) {
	if st.Signal != 0 {
		st.Code = 128 + st.Signal
	}
	p.mu.Lock()
	p.status = st
	told := p.told
	close(p.dead)
	p.mu.Unlock()
	if told != nil {
		told(st)
		close(p.over)
	}
}

// release lets go of the process, which may live on.
func (p *Process) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drop != nil {
		p.drop()
	}
	return p.pidfd.Close()
}

// Kill ends a process that nobody is told of.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if errors.Is(err, isolation.ErrState) {
		err = nil
	}
	if err == nil {
		<-p.dead
	}
	return errors.Join(err, p.release())
}
