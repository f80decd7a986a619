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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
)

// nativeName is the built-in driver's.
const nativeName = "native"

// nativeDriver makes a sandbox of isolators and starts its process by one
// clone. It implements every optional interface of [Driver].
type nativeDriver struct {
	root      *cgroups.Root
	scope     string // of the state directory
	parent    *parent
	engine    *elastic.Engine
	low       *sys.LowFDs
	network   *networkIsolator
	logs      *logsIsolator
	isolators []Isolator
	filters   filters
	stubs     struct {
		sync.Mutex
		stub *launch.Stub // nil until the first need for it
	}
}

// box is what the native driver knows of one sandbox in this process.
type box struct {
	mu    sync.Mutex
	saved nativeState
	pidfd *sys.FD       // the first process; nil until it was started
	child *launch.Child // set if it is this process's own child
	drop  func()        // stops listening for its end
	ended chan struct{} // closed once saved.Exit is set
	hurry chan struct{} // closed once the sandbox is being destroyed

	waiters atomic.Int32 // who waits for ended writes down how it ended
	execs   []*Exec      // further processes, some ended
}

// nativeState is what must be known again after a restart.
type nativeState struct {
	Group     cgroups.ID  `json:"group"`             // tells the group from another of the same path
	Starting  bool        `json:"starting,omitzero"` // intent: a process may exist
	PID       int         `json:"pid,omitzero"`      // with Inode or Since, names one process in one boot
	Inode     uint64      `json:"inode,omitzero"`    // its pidfd's; see sys.PidfdInode
	Since     uint64      `json:"since,omitzero"`    // its start time, in clock ticks after boot
	StartedAt time.Time   `json:"startedAt,omitzero"`
	Exit      *ExitStatus `json:"exit,omitempty"`
	Missing   []string    `json:"missing,omitempty"`
}

func openNative(ctx context.Context, cfg Config, dir *checkpoint.Dir) (*nativeDriver, error) {
	root, err := cgroups.Open(cfg.CgroupMount)
	if err != nil {
		return nil, err
	}
	d := &nativeDriver{root: root, scope: scopeOf(cfg.Root), network: newNetworkIsolator(cfg), logs: newLogsIsolator(cfg)}
	if d.low, err = sys.NewLowFDs(); err == nil {
		d.engine, err = elastic.NewEngine()
	}
	if err == nil {
		d.parent, err = openParent(ctx, root, cfg.Parent, d.scope, dir)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.engine.Above(d.parent.group)
	d.isolators = slices.Concat([]Isolator{
		d.network, d.logs, // first, to be cleaned up when the processes have ended
		&cgroupIsolator{root: root, parent: d.parent},
		namespaceIsolator{},
		rootIsolator{},
		processIsolator{},
	}, cfg.Isolators)
	return d, nil
}

func (d *nativeDriver) close() error {
	var errs []error
	if d.engine != nil {
		errs = append(errs, d.engine.Close())
	}
	if d.parent != nil {
		errs = append(errs, d.parent.close())
	}
	if d.low != nil {
		errs = append(errs, d.low.Close())
	}
	errs = append(errs, d.stubs.stub.Close())
	return errors.Join(append(errs, d.logs.close(), d.network.close(), d.root.Close())...)
}

// boxOf is the driver's part of c; nil before it is made.
func boxOf(c *Container) *box {
	b, _ := c.Private.(*box)
	return b
}

// Create prepares the isolators, all or none.
func (d *nativeDriver) Create(ctx context.Context, c *Container) error {
	if err := d.create(ctx, c); err != nil {
		return errors.Join(err, d.Release(c))
	}
	return nil
}

func (d *nativeDriver) create(ctx context.Context, c *Container) error {
	for i, iso := range d.isolators {
		if err := iso.Prepare(ctx, c); err != nil {
			err = fmt.Errorf("%s: %w", iso.Name(), err)
			return errors.Join(err, d.cleanup(context.WithoutCancel(ctx), c, d.isolators[:i+1]))
		}
	}
	b := &box{ended: make(chan struct{}), hurry: make(chan struct{}), saved: nativeState{Group: c.Cgroup.ID(), Missing: c.missing}}
	if err := d.mark(c); err != nil {
		return errors.Join(err, d.cleanup(context.WithoutCancel(ctx), c, d.isolators))
	}
	c.saveLater(b.saved)
	c.Private = b
	return nil
}

func (d *nativeDriver) cleanup(ctx context.Context, c *Container, isolators []Isolator) error {
	var errs []error
	for _, iso := range slices.Backward(isolators) {
		if err := iso.Cleanup(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", iso.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Start clones the process.
func (d *nativeDriver) Start(ctx context.Context, c *Container, files []*os.File) error {
	b := boxOf(c)
	if b == nil {
		return &StateError{State: StateCreating, Reason: "it is not whole yet"}
	}
	if st := b.state(); st != StateCreated {
		return &StateError{State: st, Reason: "its process was started already"}
	}
	l := &Launch{UnifiedFD: -1, Files: files, spec: &c.Spec}
	for _, iso := range d.isolators {
		if li, ok := iso.(LaunchIsolator); ok {
			if err := li.Launch(c, l); err != nil {
				return fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	program, closeFiles, err := d.compile(l)
	if err != nil {
		return err
	}
	defer closeFiles()
	saved := b.saved
	saved.Starting = true
	if err := c.Save(saved); err != nil {
		return err
	}
	child, err := l.start(ctx, program)
	if err != nil {
		return errors.Join(err, c.Save(b.saved))
	}
	return d.started(ctx, c, b, child)
}

// started takes over a running child, or ends it again.
func (d *nativeDriver) started(ctx context.Context, c *Container, b *box, child *launch.Child) error {
	before := b.saved
	saved := before
	saved.PID, saved.StartedAt, saved.Missing = child.PID, time.Now(), slices.Clone(before.Missing)
	for _, d := range child.Degraded {
		saved.Missing = append(saved.Missing, d.Error())
	}
	var err error
	if saved.Inode = sys.PidfdInode(child.PIDFD.Int()); saved.Inode == 0 {
		saved.Since, err = linux.StartTime(child.PID)
	}
	if err == nil {
		err = c.Save(saved)
	}
	if err == nil {
		err = markProcess(c, saved)
	}
	for _, iso := range d.isolators {
		if si, ok := iso.(StartedIsolator); ok && err == nil {
			if err = si.Started(ctx, c, child.PID); err != nil {
				err = fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	if err == nil {
		b.mu.Lock()
		b.saved, b.child, b.pidfd = saved, child, child.PIDFD
		b.mu.Unlock()
		if err = d.listen(c, b); err == nil {
			return nil
		}
		b.mu.Lock()
		b.saved, b.child, b.pidfd = before, nil, nil
		b.mu.Unlock()
	}
	err = errors.Join(err, sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGKILL))
	_, werr := child.Wait()
	return errors.Join(err, werr, child.PIDFD.Close(), c.Save(before), markProcess(c, before))
}

// Signal sends sig to the first process.
func (d *nativeDriver) Signal(_ context.Context, c *Container, sig syscall.Signal) error {
	b := boxOf(c)
	if b == nil {
		return &StateError{State: StateCreating, Reason: "no process was started"}
	}
	if st := b.state(); st != StateRunning {
		return &StateError{State: st, Reason: "no process runs"}
	}
	err := sys.PidfdSignal(b.pidfd.Int(), sig)
	if errors.Is(err, syscall.ESRCH) {
		return &StateError{State: StateExited, Reason: "no process runs"}
	}
	return err
}

// Freeze stops every process of the group.
func (d *nativeDriver) Freeze(ctx context.Context, c *Container) error { return c.Cgroup.Freeze(ctx) }

// Thaw lets them go on.
func (d *nativeDriver) Thaw(ctx context.Context, c *Container) error { return c.Cgroup.Thaw(ctx) }

// Check asks the kernel.
func (d *nativeDriver) Check(_ context.Context, c *Container) (Status, error) {
	b := boxOf(c)
	if b == nil {
		return Status{State: StateCreating}, nil
	}
	st, err := checkGroup(c.Cgroup)
	if err != nil {
		return Status{}, err
	}
	st.State = b.state()
	b.mu.Lock()
	defer b.mu.Unlock()
	st.StartedAt, st.Missing = b.saved.StartedAt, slices.Clone(b.saved.Missing)
	if b.saved.Exit != nil {
		exit := *b.saved.Exit
		st.Exit = &exit
	} else {
		st.PID = b.saved.PID
	}
	return st, nil
}

// checkGroup is what a group tells of a sandbox.
func checkGroup(g *cgroups.Cgroup) (Status, error) {
	pids, err := g.Procs(nil)
	var frozen bool
	if err == nil {
		if frozen, err = g.Frozen(); errors.Is(err, ErrNotSupported) {
			err = nil
		}
	}
	if errors.Is(err, cgroups.ErrGone) {
		return Status{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return Status{}, err
	}
	return Status{PIDs: len(pids), Frozen: frozen, Cgroup: g.Path()}, nil
}

// Destroy ends every process and cleans the isolators up, last one first. The
// group, prepared first, goes last, and ending its processes is its part.
func (d *nativeDriver) Destroy(ctx context.Context, c *Container) error {
	if err := d.cleanup(ctx, c, d.isolators); err != nil {
		return err
	}
	// The first process is dead, and still has to be reaped if it is a child
	// of this one; whoever waits for it hears of its end.
	if b := boxOf(c); b != nil && b.state() == StateRunning {
		if !isClosed(b.hurry) {
			close(b.hurry)
		}
		select {
		case <-b.ended:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of process %d: %w", b.saved.PID, context.Cause(ctx))
		}
	}
	if b := boxOf(c); b != nil {
		if err := b.waitExecs(ctx); err != nil {
			return err
		}
	}
	return d.Release(c)
}

// Release frees what this process holds.
func (d *nativeDriver) Release(c *Container) error {
	var errs []error
	for _, iso := range slices.Backward(d.isolators) {
		if r, ok := iso.(ReleaseIsolator); ok {
			errs = append(errs, r.Release(c))
		}
	}
	b := boxOf(c)
	if b == nil {
		return errors.Join(errs...)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drop != nil {
		b.drop()
	}
	return errors.Join(append(errs, b.pidfd.Close(), b.releaseExecs())...)
}

// Recover finds a sandbox that an earlier process made.
func (d *nativeDriver) Recover(ctx context.Context, c *Container) error {
	b := &box{ended: make(chan struct{}), hurry: make(chan struct{})}
	if ok, err := c.Saved(&b.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", ErrNotFound))
	}
	for _, iso := range d.isolators {
		if ri, ok := iso.(RecoverIsolator); ok {
			if err := ri.Recover(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	if c.Cgroup.ID() != b.saved.Group {
		return fmt.Errorf("%w: its group was removed and made again", ErrNotFound)
	}
	if b.saved.PID == 0 {
		if err := markedProcess(c, &b.saved); err != nil {
			return err
		}
	}
	if b.saved.Starting && b.saved.PID == 0 {
		if err := d.findStarted(ctx, c.Cgroup, b); err != nil {
			return err
		}
	}
	c.Private = b
	switch {
	case b.saved.Exit != nil:
		close(b.ended)
		return nil
	case b.saved.PID == 0:
		return nil
	}
	pidfd, err := holdProcess(b.saved.PID, b.saved.Since, b.saved.Inode)
	if errors.Is(err, fs.ErrNotExist) {
		b.saved.Exit = &ExitStatus{At: time.Now()}
		close(b.ended)
		return nil
	}
	if err != nil {
		return err
	}
	b.pidfd = pidfd
	// A Start that was cut off may not have come to what is set once the
	// process runs.
	if _, later := heldBack(c.Spec.Resources); !later.IsZero() {
		if _, err := c.Cgroup.Update(ctx, later); err != nil {
			return err
		}
	}
	return d.listen(c, b)
}

// findStarted looks for the process of a Start that did not live to write its
// pid down: the oldest of the group. One that has not come to its program yet is
// ended: it may be waiting for the id maps that the dead one was to write.
func (d *nativeDriver) findStarted(ctx context.Context, g *cgroups.Cgroup, b *box) error {
	pids, err := g.Procs(nil)
	if err != nil {
		return err
	}
	b.saved.Starting = false
	for _, pid := range pids {
		since, err := linux.StartTime(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if b.saved.PID == 0 || since < b.saved.Since {
			b.saved.PID, b.saved.Since = pid, since
		}
	}
	if b.saved.PID == 0 {
		return nil
	}
	st, err := linux.ReadStat(b.saved.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // holding it will say so
	}
	if err != nil || !st.BeforeExec || st.StartTime != b.saved.Since {
		return err
	}
	pid, since := b.saved.PID, b.saved.Since
	b.saved.PID, b.saved.Since = 0, 0
	return d.endOne(ctx, pid, since)
}

// endOne kills a process that is not a child of this one, and waits for its end. It
// does not use cgroup.kill: Linux 6.18 kills at its birth who is cloned into a group
// that was killed once.
func (d *nativeDriver) endOne(ctx context.Context, pid int, since uint64) (err error) {
	pidfd, err := holdProcess(pid, since, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pidfd.Close()) }()
	ended := make(chan struct{})
	drop, err := d.engine.OnExit(pidfd.Int(), func() { close(ended) })
	if err != nil {
		return err
	}
	defer drop()
	if err := sys.PidfdSignal(pidfd.Int(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of process %d: %w", pid, context.Cause(ctx))
	}
}

// holdProcess holds the process pid whose pidfd has that inode or, if it is 0,
// that started at since. Another process of that number, and none, are
// os.ErrNotExist.
func holdProcess(pid int, since, inode uint64) (*sys.FD, error) {
	pidfd, err := sys.PidfdOpen(pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	// Held before looked at: the number cannot change hands in between
	// without the look showing another inode or start time.
	got, want := uint64(0), cmp.Or(inode, since)
	if inode != 0 {
		got = sys.PidfdInode(pidfd.Int())
	} else {
		got, err = linux.StartTime(pid)
	}
	if err == nil && got != want {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	return pidfd, nil
}
