// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/supervise"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/namespaces"
)

// Exec clones a process into the sandbox: born in its group and pid namespace, it
// enters the other namespaces and becomes what p says.
func (d *nativeDriver) Exec(ctx context.Context, c *Container, p Process, files []*os.File) (*Exec, error) {
	return d.execIn(ctx, c, p, files, nil)
}

// running is the box of a sandbox that a process may be started in.
func running(c *Container) (*box, error) {
	b := boxOf(c)
	if b == nil {
		return nil, &StateError{State: StateCreating, Reason: "no process runs"}
	}
	if st := b.state(); st != StateRunning {
		return nil, &StateError{State: st, Reason: "no process runs"}
	}
	return b, thawed(c, StateRunning)
}

// thawed is an error if c is frozen: a child would not get as far as execve, and have
// what this process has open until then, also when this process is gone.
func thawed(c *Container, st State) error {
	if c.Cgroup() == nil {
		return nil
	}
	if frozen, err := c.Cgroup().Frozen(); err == nil && frozen {
		return &StateError{State: st, Reason: "it is frozen: thaw it first"}
	}
	return nil
}

// execIn is Exec, in a group of the process's own if there is one.
func (d *nativeDriver) execIn(ctx context.Context, c *Container, p Process, files []*os.File, own *ownGroup) (_ *Exec, err error) {
	defer func() { err = starved(c, err) }()
	b, err := running(c)
	if err != nil {
		return nil, err
	}
	spec := c.Spec.Clone()
	spec.Process, spec.Process.Reaper = p, false
	if err := execIDs(p.User, spec.Namespaces); err != nil {
		return nil, err
	}
	l := &Launch{UnifiedFD: -1, Files: files, spec: &spec, confined: !spec.Root.IsZero(), entered: b.pidfd}
	if d.supervisor.wanted() {
		if l.from, err = d.supervisor.ensure(ctx); err != nil {
			return nil, err
		}
	}
	if l.Path, err = lookPath(p, &spec.Root); err != nil {
		return nil, err
	}
	if l.Capabilities, err = capabilitySet(p.Capabilities); err != nil {
		return nil, err
	}
	l.Args, l.Env, l.Dir = p.Args, p.Env, cmp.Or(p.Dir, "/")
	l.User, l.NewPrivileges, l.Rlimits, l.Terminal = p.User, p.NewPrivileges, p.Rlimits, p.Terminal
	l.entering = spec.Namespaces.Kinds()
	if spec.Network.Mode != "" {
		l.entering = l.entering.With(namespaces.KindsOf(namespaces.Network))
	}
	if l.entering.Has(namespaces.Time) {
		// One that shares our memory cannot enter a time namespace, but make an equal
		// one: the offsets of the clocks are all that there is to it, and fixed.
		if os.Geteuid() != 0 {
			return nil, &UnsupportedError{Feature: "exec", Reason: "only root gets a clock with the offsets of the sandbox's time namespace"}
		}
		l.New = namespaces.KindsOf(namespaces.Time)
		l.entering = l.entering.Without(l.New)
		l.Monotonic, l.Boottime = spec.Namespaces.Monotonic, spec.Namespaces.Boottime
	}
	if os.Geteuid() != 0 && l.entering.Has(namespaces.User) {
		spec.Process.Reaper = byStub(&spec)
		l.keepGroups = spec.Namespaces.GIDMap.Only(os.Getegid())
	}
	if group := c.home(); group != nil {
		if own != nil {
			group = own.Cgroup
		}
		join, err := group.JoinFrom(l.from)
		if err != nil {
			return nil, err
		}
		defer func() {
			if e := group.CloseJoin(); !errors.Is(e, os.ErrClosed) { // or the process has ended, and its group with it
				err = errors.Join(err, e)
			}
		}()
		l.UnifiedFD, l.TaskFDs = join.Unified, join.Tasks
	}
	restore, err := d.noGroupOOM(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	e, err := d.exec(ctx, c, b, l, own)
	if errors.Is(err, syscall.ESRCH) { // its first process has just ended, and cannot be followed
		err = &StateError{State: StateExited, Reason: "no process runs"}
	}
	if err == nil {
		b.mu.Lock()
		b.remember(e)
		b.mu.Unlock()
	}
	return e, err
}

// execIDs refuses ids that the sandbox's user namespace does not have.
func execIDs(u User, n Namespaces) error {
	if n.User != NamespaceNew {
		return nil
	}
	for _, id := range append([]uint32{u.GID}, u.Groups...) {
		if _, mapped := n.GIDMap.Outside(id); !mapped {
			return &InvalidError{Field: "process.user", Value: fmt.Sprint(id), Reason: "no group of the sandbox's user namespace"}
		}
	}
	if _, mapped := n.UIDMap.Outside(u.UID); !mapped {
		return &InvalidError{Field: "process.user", Value: fmt.Sprint(u.UID), Reason: "no user of the sandbox's user namespace"}
	}
	if len(u.Groups) > 0 && os.Geteuid() != 0 && n.GIDMap.Only(os.Getegid()) {
		return &UnsupportedError{Feature: "process.user.groups", Reason: onlyOwnGroup}
	}
	return nil
}

// waitExecs waits until the processes of Exec, which are killed, are reaped.
func (b *box) waitExecs(ctx context.Context) error {
	b.mu.Lock()
	execs := slices.Clone(b.execs)
	b.mu.Unlock()
	for _, e := range execs {
		if _, err := e.Wait(ctx); err != nil {
			return fmt.Errorf("waiting for the end of process %d: %w", e.pid, err)
		}
	}
	return nil
}

// releaseExecs is called with b.mu held.
func (b *box) releaseExecs() error {
	var errs []error
	for _, e := range b.execs {
		errs = append(errs, e.release())
	}
	b.execs = nil
	return errors.Join(errs...)
}

// exec starts a joined launch.
func (d *nativeDriver) exec(ctx context.Context, c *Container, b *box, l *Launch, own *ownGroup) (*Exec, error) {
	e := &Exec{stub: l.spec.Process.Reaper, own: own, ended: make(chan struct{})}
	if e.id = newExecID(); own != nil {
		e.id = own.id()
	}
	if d.supervisor.wanted() {
		child, err := d.execBySupervisor(ctx, c, e, l)
		if err != nil {
			return nil, err
		}
		e.pid, e.pidfd = child.PID, child.PIDFD
	} else {
		program, done, err := d.compile(l)
		if err != nil {
			return nil, err
		}
		defer done()
		if e.child, err = program.Start(ctx); err != nil {
			return nil, err
		}
		e.pid, e.pidfd = e.child.PID, e.child.PIDFD
	}
	err := d.listenExec(c, b, e, time.Now())
	if err == nil {
		return e, nil
	}
	err = errors.Join(err, sys.PidfdSignal(e.pidfd.Int(), syscall.SIGKILL))
	if e.child != nil {
		_, werr := e.child.Wait()
		err = errors.Join(err, werr)
	}
	return nil, errors.Join(err, e.pidfd.Close())
}

// listenExec arranges for the end of the process, started at began, to be noticed.
func (d *nativeDriver) listenExec(c *Container, b *box, e *Exec, began time.Time) (err error) {
	e.mu.Lock() // it may end at once
	defer e.mu.Unlock()
	e.end, err = d.onExit(e.pidfd, began, func() { d.execEnded(c, b, e) })
	return err
}

// execEnded runs once, on the engine's goroutine or one that waits, and does not block.
func (d *nativeDriver) execEnded(c *Container, b *box, e *Exec) {
	st := ExitStatus{At: time.Now()}
	e.mu.Lock()
	e.end.drop()
	pidfd, _ := e.pidfd.Dup()
	e.mu.Unlock()
	if e.child == nil {
		d.finisher.running.Go(func() {
			if st, _, ok := d.learn(b, supervise.Further(c.Spec.ID, e.id), e.process, pidfd, st); ok {
				e.over(st) // nobody acknowledges it, so the next agent has it too
			}
		})
		return
	}
	_ = pidfd.Close()
	if end, ended, err := e.child.Reap(); err == nil && ended {
		st = known(end.Code, end.Signal, st.At)
	} else if err == nil {
		reapLater(e.pidfd)
	}
	e.over(st)
}

// rememberedExecs is how many further processes of a sandbox are remembered when they
// have ended.
const rememberedExecs = 16

// remember is called with b.mu held.
func (b *box) remember(e *Exec) {
	ended := 0
	for _, old := range b.execs {
		if isClosed(old.ended) {
			ended++
		}
	}
	b.execs = append(slices.DeleteFunc(b.execs, func(old *Exec) bool {
		if ended < rememberedExecs || !isClosed(old.ended) {
			return false
		}
		ended--
		return true
	}), e)
}

// Execs are those of this process and, with a supervisor, all.
func (d *nativeDriver) Execs(ctx context.Context, c *Container) ([]*Exec, error) {
	b := boxOf(c)
	if b == nil {
		return nil, &StateError{State: StateCreating, Reason: "it is not whole yet"}
	}
	var list []supervise.Entry
	var err error
	if d.supervisor.client != nil {
		if list, err = d.supervisor.client.Further(ctx, c.Spec.ID); err != nil {
			return nil, err
		}
	}
	var found []*Exec
	for _, entry := range list {
		_, id := supervise.Owner(entry.ID)
		if b.hasExec(id) {
			continue
		}
		e, ferr := d.foundExec(ctx, c, b, id, entry)
		if ferr != nil {
			err = errors.Join(err, ferr)
			continue
		}
		found = append(found, e)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.execs = append(found, b.execs...) // of an earlier process, so they were before
	return slices.Clone(b.execs), err
}

func (b *box) hasExec(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.execs, func(e *Exec) bool { return e.id == id })
}

// foundExec takes over a further process of an earlier agent.
func (d *nativeDriver) foundExec(ctx context.Context, c *Container, b *box, id string, entry supervise.Entry) (e *Exec, err error) {
	e = &Exec{id: id, pid: entry.Process.PID, process: entry.Process, stub: byStub(&c.Spec), ended: make(chan struct{})}
	if !entry.Ended {
		e.pidfd, err = holdProcess(e.pid, e.process.Since, e.process.Inode)
		if err == nil {
			if err = d.listenExec(c, b, e, time.Time{}); err != nil {
				err = errors.Join(err, e.pidfd.Close())
			}
			return e, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// It has ended just now.
		if entry.Exit, err = d.supervisor.client.Exit(ctx, entry.ID, entry.Process); err != nil && !nobody(err) {
			return nil, err
		}
	}
	st := ExitStatus{At: entry.Exit.At}
	if entry.Exit.Known {
		st = known(entry.Exit.Code, syscall.Signal(entry.Exit.Signal), st.At)
	}
	e.over(st)
	return e, nil
}

// byStub reports whether a further process has a stub that stands for it.
func byStub(s *Spec) bool {
	kinds := s.Namespaces.Kinds()
	return os.Geteuid() != 0 && kinds.Has(namespaces.User) && kinds.Has(namespaces.PID)
}

// noGroupOOM takes memory.oom.group back while a child that shares the caller's
// memory is in the group: a kill of the whole group would reach the caller. See
// internal/launch.
func (d *nativeDriver) noGroupOOM(ctx context.Context, c *Container) (restore func() error, err error) {
	_, later := heldBack(c.Spec.Resources)
	if later.IsZero() {
		return func() error { return nil }, nil
	}
	off := cgroups.Resources{Memory: cgroups.Memory{OOMGroup: cgroups.Off}}
	if _, err := c.Cgroup().Update(ctx, off); err != nil {
		return nil, err
	}
	return func() error {
		_, err := c.Cgroup().Update(context.WithoutCancel(ctx), later)
		return err
	}, nil
}
