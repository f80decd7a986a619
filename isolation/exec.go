// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/supervise"
	"github.com/caisson-run/caisson/internal/sys"
)

// An Execer runs further processes in a running container.
type Execer interface {
	// Exec starts p beside the first process. files are as in [Starter].
	Exec(ctx context.Context, c *Container, p Process, files []*os.File) (*Exec, error)
}

// groupExecer runs further processes in groups of their own. What a driver of others
// would give back for that, NewExec cannot make.
type groupExecer interface {
	ExecGroup(ctx context.Context, c *Container, p Process, limits cgroups.Resources, files []*os.File) (*Exec, error)
}

// An ExecLister tells of the further processes of a container.
type ExecLister interface {
	// Execs are those that run, and some of those that have ended, whichever process
	// has started them.
	Execs(ctx context.Context, c *Container) ([]*Exec, error)
}

// Exec is a further process in a sandbox. It ends with the sandbox. Once its host
// is closed nobody waits for it, and Wait does not return.
type Exec struct {
	id      string
	pid     int
	pidfd   *sys.FD
	child   *launch.Child     // nil: it is none of this process's
	process supervise.Process // the supervisor's name for it
	stub    bool              // the child stands for the process
	own     *ownGroup         // nil: it is in the sandbox's
	end     *ending
	send    func(syscall.Signal) error // of a driver that has no child here
	ended   chan struct{}              // closed once status is set

	mu     sync.Mutex
	status ExitStatus
}

// NewExec is for drivers: e is a process of theirs, and they call ended once, when
// they know how it ended. signal sends to it, and answers a [StateError] after that.
func NewExec(pid int, signal func(syscall.Signal) error) (e *Exec, ended func(ExitStatus)) {
	e = &Exec{pid: pid, send: signal, ended: make(chan struct{})}
	return e, e.tell
}

// over is for a process of the native driver that has ended.
func (e *Exec) over(st ExitStatus) {
	e.mu.Lock()
	_ = e.pidfd.Close() // the one whose end was told of is not needed any more
	e.mu.Unlock()
	if e.own != nil {
		e.own.finish(e, st)
		return
	}
	e.tell(st)
}

// Exec starts a process in the running sandbox: in its namespaces, root and group,
// with the identity and capabilities that p says and the system call filter of the
// sandbox. files are as in [Sandbox.Start]. The first process has to live.
//
// Nothing of the caller is within reach of the sandbox meanwhile: neither its
// binary nor its memory nor its descriptors. What the process leaves behind when
// it ends goes to the first process of the pid namespace.
//
// On an ordinary user's host, what PID and Signal are about is a small process of
// ours outside of the sandbox's pid namespace, which passes signals on, ends as the
// process ends, with 128 and the signal's number if that was a signal, and takes it
// along.
//
// Of a time namespace it gets an equal one. Root alone can do that; an ordinary
// user's host answers [ErrNotSupported] then.
//
// With [Config.Supervisor] the process is the supervisor's child, as that of Start is:
// an agent that takes over has it from [Sandbox.Execs] and hears how it ended, and it
// can have pipes or a terminal by [Sandbox.Keep]. If the supervisor is killed in the
// midst of it, another one does it, or the error says that the process may have run:
// then it is in the sandbox, and ends with that.
//
// A frozen sandbox is a [StateError]; in one whose CPU limit is used up, Exec takes
// as long as the limit has it.
func (s *Sandbox) Exec(ctx context.Context, p Process, files ...*os.File) (*Exec, error) {
	var e *Exec
	err := s.change(ctx, "exec", func() (err error) {
		d, ok := s.driver.(Execer)
		if !ok {
			return s.lacks("exec")
		}
		if err := errors.Join(p.validate()...); err != nil {
			return err
		}
		standard(files)
		e, err = d.Exec(ctx, s.c, p, files)
		return err
	})
	return e, err
}

// ExecGroup is Exec in a group of the process's own, below the sandbox's, for what
// must not starve the workload and can be ended without it: a health probe, somebody
// who debugs. limits are of this group, and those of the sandbox hold for it too. What
// it starts is in the group, and [Exec.Kill] ends that and nothing else. With the
// process all that is left in the group ends and the group goes; Wait returns after
// that. When the agent dies, the next one sees to it.
//
// On cgroup v2 limits take a sandbox with [Spec.Subgroups], since a group that holds
// processes gives none to those below it; without it they match [ErrNotSupported].
// A host without groups answers that always, and so do other drivers than the native.
func (s *Sandbox) ExecGroup(ctx context.Context, p Process, limits cgroups.Resources, files ...*os.File) (*Exec, error) {
	var e *Exec
	err := s.change(ctx, "exec", func() (err error) {
		d, ok := s.driver.(groupExecer)
		if !ok {
			return s.lacks("exec in a group")
		}
		if err := errors.Join(append(p.validate(), limits.Validate())...); err != nil {
			return err
		}
		standard(files)
		e, err = d.ExecGroup(ctx, s.c, p, limits, files)
		return err
	})
	return e, err
}

// Cgroup is the group of a process that [Sandbox.ExecGroup] started, to measure it and
// to change its limits; of any other it is nil. It is gone soon after the process: do
// not close or remove it.
func (e *Exec) Cgroup() *cgroups.Cgroup {
	if e.own == nil {
		return nil
	}
	return e.own.Cgroup
}

// Kill ends a process that [Sandbox.ExecGroup] started, with everything that is in its
// group, and waits until that is gone. If ctx ends first, the error names who is left;
// they end as soon as they can. Any other process answers [ErrNotSupported].
func (e *Exec) Kill(ctx context.Context) error {
	if e.own == nil {
		return &UnsupportedError{Feature: "kill", Reason: "the process has no group of its own, see ExecGroup: send it a signal"}
	}
	if err := e.own.Kill(ctx); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	_, err := e.Wait(ctx)
	return err
}

// Execs are the further processes of the sandbox: those that run, and the last 16 that
// have ended, in the order of their start. With [Config.Supervisor] those are among them
// that an earlier agent has started; an [Exec.ID] tells which is which. Without, and
// where the supervisor was killed since, they are those of this process.
func (s *Sandbox) Execs(ctx context.Context) ([]*Exec, error) {
	var list []*Exec
	err := s.change(ctx, "execs", func() (err error) { // one takes over at a time
		d, ok := s.driver.(ExecLister)
		if !ok {
			return s.lacks("execs")
		}
		list, err = d.Execs(ctx, s.c)
		return err
	})
	return list, err
}

// ID tells the process from the others of its sandbox, also after a restart of the
// agent. It is empty if the driver has none.
func (e *Exec) ID() string { return e.id }

// PID is the process's number in the caller's pid namespace.
func (e *Exec) PID() int { return e.pid }

// Wait waits for the end of the process. It may be called by many and again.
func (e *Exec) Wait(ctx context.Context) (ExitStatus, error) {
	if e.send == nil && !isClosed(e.ended) {
		e.mu.Lock()
		end := e.end
		e.mu.Unlock()
		end.look(ctx)
	}
	select {
	case <-e.ended:
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.status, nil
	case <-ctx.Done():
		return ExitStatus{}, context.Cause(ctx)
	}
}

// Signal sends sig to the process.
func (e *Exec) Signal(sig syscall.Signal) error {
	if e.send != nil {
		return e.send(sig)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pidfd.Int() < 0 {
		return &StateError{State: StateExited, Reason: "the process has ended"}
	}
	if e.stub && sig == syscall.SIGKILL {
		sig = launch.KillSignal
	}
	err := sys.PidfdSignal(e.pidfd.Int(), sig)
	if errors.Is(err, syscall.ESRCH) {
		return &StateError{State: StateExited, Reason: "the process has ended"}
	}
	return err
}

// tell makes known how the process ended.
func (e *Exec) tell(st ExitStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = st
	close(e.ended)
}

// release lets go of a process that lives on, of which nobody will hear.
func (e *Exec) release() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end.drop()
	err := e.pidfd.Close()
	if e.own != nil && e.own.Cgroup != nil {
		err = errors.Join(err, e.own.Close())
	}
	return err
}
