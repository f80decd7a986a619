// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
)

// process is one process that is held by its pidfd, so that nobody's signal or
// wait meets another one of its number, and no thread is blocked by waiting.
type process struct {
	pid  int
	own  *libcontainer.Process // that this driver started; nil otherwise
	dead chan struct{}         // closed once it has ended and is reaped
	over chan struct{}         // closed once that was told, too

	mu     sync.Mutex
	pidfd  *sys.FD
	drop   func()
	status isolation.ExitStatus
	told   func(isolation.ExitStatus) // nil until somebody wants to know
}

// hold takes charge of a process.
func (d *Driver) hold(pid int, own *libcontainer.Process) (*process, error) {
	pidfd, err := sys.PidfdOpen(pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, own: own, dead: make(chan struct{}), over: make(chan struct{}), pidfd: pidfd}
	p.mu.Lock() // it may end at once
	p.drop, err = d.engine.OnExit(pidfd.Int(), p.exited)
	p.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	return p, nil
}

// tell has fn called once, when the process has ended.
func (p *process) tell(fn func(isolation.ExitStatus)) {
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

func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd.Int() < 0 {
		return &isolation.StateError{State: isolation.StateExited, Reason: noProcess}
	}
	err := sys.PidfdSignal(p.pidfd.Int(), sig)
	if errors.Is(err, syscall.ESRCH) {
		return &isolation.StateError{State: isolation.StateExited, Reason: noProcess}
	}
	return err
}

// exited runs once, on the engine's goroutine, and does not block: the process has
// ended.
func (p *process) exited() {
	st := isolation.ExitStatus{At: time.Now()}
	if p.own != nil {
		// What it returns besides is that a status is not 0.
		if ps, _ := p.own.Wait(); ps != nil {
			if ws, ok := ps.Sys().(syscall.WaitStatus); ok {
				known(&st, ws)
			}
		}
		p.finish(st)
		return
	}
	p.mu.Lock()
	pidfd, err := p.pidfd.Dup()
	p.mu.Unlock()
	if err != nil {
		p.finish(st)
		return
	}
	// A driver of this process that was closed may have started it.
	child := &launch.Child{PIDFD: pidfd}
	if end, ended, err := child.Reap(); err == nil && ended {
		st.Known, st.Code, st.Signal = true, end.Code, int(end.Signal)
		_ = pidfd.Close()
		p.finish(st)
		return
	}
	go p.inherited(pidfd, st)
}

// reaperPatience is how long whoever has inherited an earlier agent's child may
// take to wait for it, after which the kernel tells (Linux 6.15).
const reaperPatience = time.Second

// inherited is for a process that was another's child. It owns pidfd.
func (p *process) inherited(pidfd *sys.FD, st isolation.ExitStatus) {
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

func (p *process) finish(st isolation.ExitStatus) {
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
func (p *process) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drop != nil {
		p.drop()
	}
	return p.pidfd.Close()
}

// kill ends a process that nobody is told of.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	if errors.Is(err, isolation.ErrState) {
		err = nil
	}
	if err == nil {
		<-p.dead
	}
	return errors.Join(err, p.release())
}

// descriptors are those of a process to start; done closes what was opened for it.
func descriptors(p *libcontainer.Process, files []*os.File) (done func() error, err error) {
	std := [3]*os.File{}
	copy(std[:], files)
	done = func() error { return nil }
	for i := range std {
		if std[i] != nil {
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(err, done())
		}
		std[i] = null
		others := done
		done = func() error { return errors.Join(null.Close(), others()) }
	}
	p.Stdin, p.Stdout, p.Stderr = std[0], std[1], std[2]
	if len(files) > 3 {
		p.ExtraFiles = files[3:]
	}
	return done, nil
}
