// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/supervise"
)

// Groups below a sandbox's: that of its first process, where Spec.Subgroups has one,
// and those of further processes. What follows the prefix cannot be guessed, so the
// workload has none of that name, whatever it makes.
const (
	mainGroup  = "main"
	execPrefix = "exec-"
)

const noSubgroups = "the sandbox's own group holds processes, and cgroup v2 gives those below it no controllers then: set Spec.Subgroups"

// controllersOfV2 are those of the machine that v2 has.
func controllersOfV2(r *cgroups.Root) (set cgroups.Controllers) {
	for _, ctl := range r.Controllers().List() {
		if _, version, ok := r.Where(ctl); ok && version == 2 {
			set |= cgroups.ControllersOf(ctl)
		}
	}
	return set
}

// home is the group that the sandbox's processes are in.
func (c *Container) home() *cgroups.Cgroup {
	if c.main != nil {
		return c.main
	}
	return c.Cgroup()
}

// elsewhere counts the processes that are not in the sandbox's own group. b.mu is not
// held.
func (b *box) elsewhere(c *Container) (n int) {
	groups := make([]*cgroups.Cgroup, 0, 1)
	if c.main != nil {
		groups = append(groups, c.main)
	}
	b.mu.Lock()
	for _, e := range b.execs {
		if e.own != nil && !isClosed(e.ended) {
			groups = append(groups, e.own.Cgroup)
		}
	}
	b.mu.Unlock()
	for _, g := range groups {
		pids, _ := g.Procs(nil) // it may go meanwhile
		n += len(pids)
	}
	return n
}

// execState is a further process in a group of its own, as the next agent must know
// it.
type execState struct {
	Group string `json:"group"`
	PID   int    `json:"pid,omitzero"` // 0: nobody was told that it is there
	Inode uint64 `json:"inode,omitzero"`
	Since uint64 `json:"since,omitzero"`
}

// ownGroup is the group of one further process.
type ownGroup struct {
	*cgroups.Cgroup
	driver *nativeDriver
	c      *Container
	box    *box
	name   string
	gone   bool // under box.mu
}

// ExecGroup is Exec in a new group below the sandbox's. The group's name is on disk
// before the group is there.
func (d *nativeDriver) ExecGroup(ctx context.Context, c *Container, p Process, limits cgroups.Resources, files []*os.File) (_ *Exec, err error) {
	b, err := running(c)
	if err != nil {
		return nil, err
	}
	if on := controllersOfV2(d.root) & limits.Controllers(); on != 0 && c.main == nil {
		return nil, &UnsupportedError{Feature: on.String() + " limits of a further process", Reason: noSubgroups}
	}
	now, later := heldBack(limits)
	o := &ownGroup{driver: d, c: c, box: b, name: execPrefix + newExecID()}
	if err := o.note(execState{Group: o.name}); err != nil {
		return nil, err
	}
	if o.Cgroup, err = c.Cgroup().CreateBelow(ctx, o.name, now); err != nil {
		o.forget()
		return nil, err
	}
	e, err := d.execIn(ctx, c, p, files, o)
	if err != nil {
		return nil, errors.Join(err, o.end(context.WithoutCancel(ctx)))
	}
	s := execState{Group: o.name, PID: e.pid}
	e.mu.Lock() // it may have ended, and its pidfd be closed
	if fd := e.pidfd.Int(); fd >= 0 {
		s.Inode, s.Since, err = linux.Identify(s.PID, fd)
	}
	e.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && s.Inode+s.Since != 0 {
		err = o.note(s)
	}
	if err == nil && !later.IsZero() {
		if _, err = o.Update(ctx, later); errors.Is(err, cgroups.ErrGone) {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, e.Kill(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// newExecID tells a further process from the others of its sandbox.
func newExecID() string { return strings.ToLower(rand.Text()[:13]) }

// id is that of the group's process.
func (o *ownGroup) id() string { return strings.TrimPrefix(o.name, execPrefix) }

func (o *ownGroup) path() string { return o.c.Cgroup().Path() + "/" + o.name }

// note writes down what is known of the process.
func (o *ownGroup) note(s execState) error {
	o.box.mu.Lock()
	if o.gone {
		o.box.mu.Unlock()
		return nil
	}
	execs := slices.DeleteFunc(slices.Clone(o.box.saved.Execs), func(e execState) bool { return e.Group == o.name })
	before := o.box.saved
	o.box.saved.Execs = append(execs, s)
	saved := o.box.saved
	o.box.mu.Unlock()
	err := o.c.Save(saved)
	if err != nil {
		o.box.mu.Lock()
		o.box.saved.Execs = before.Execs
		o.box.mu.Unlock()
	}
	return err
}

// forget is for a group that is gone. The record says so with its next line.
func (o *ownGroup) forget() {
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	o.gone = true
	o.box.saved.Execs = slices.DeleteFunc(slices.Clone(o.box.saved.Execs), func(e execState) bool { return e.Group == o.name })
	o.c.saveLater(o.box.saved)
}

// end kills whoever is left in the group and removes it.
func (o *ownGroup) end(ctx context.Context) error {
	err := o.Destroy(ctx)
	if errors.Is(err, cgroups.ErrGone) {
		err = nil
	}
	if err == nil {
		o.forget()
	}
	return errors.Join(err, o.Close())
}

// finish is for a process that has ended: then its group goes. What cannot be removed
// before the host is closed is left to the next one.
func (o *ownGroup) finish(e *Exec, st ExitStatus) {
	f := o.driver.finisher
	f.running.Go(func() {
		st = st.inGroup(o.Cgroup)
		_ = o.end(f.ctx)
		e.tell(st)
	})
}

// resume finds the further processes in groups of their own that an earlier agent
// started, and goes on as it would have.
func (d *nativeDriver) resume(ctx context.Context, c *Container, b *box) error {
	for _, s := range slices.Clone(b.saved.Execs) {
		o := &ownGroup{driver: d, c: c, box: b, name: s.Group}
		g, err := d.root.Open(o.path())
		if errors.Is(err, fs.ErrNotExist) {
			o.forget()
			continue
		}
		if err != nil {
			return err
		}
		g.Own()
		o.Cgroup = g
		e := &Exec{
			id: o.id(), pid: s.PID, process: supervise.Process{PID: s.PID, Inode: s.Inode, Since: s.Since},
			stub: byStub(&c.Spec), own: o, ended: make(chan struct{}),
		}
		b.execs = append(b.execs, e)
		if s.PID != 0 {
			e.pidfd, err = holdProcess(s.PID, s.Since, s.Inode)
		}
		switch {
		case s.PID == 0:
			e.over(ExitStatus{})
		case errors.Is(err, fs.ErrNotExist):
			st, _, err := d.supervisor.exit(ctx, supervise.Further(c.Spec.ID, e.id), e.process)
			if err != nil {
				return err
			}
			e.over(st)
		case err != nil:
			return err
		default:
			if err := d.listenExec(c, b, e, time.Time{}); err != nil {
				return err
			}
		}
	}
	return nil
}
