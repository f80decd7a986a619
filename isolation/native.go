// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/caisson-run/caisson/internal/supervise"
	"github.com/caisson-run/caisson/internal/sys"
)

// nativeName is the built-in driver's.
const nativeName = "native"

// nativeDriver makes a sandbox of isolators and starts its process by one
// clone. It implements every optional interface of [Driver].
type nativeDriver struct {
	root      *cgroups.Root
	scope     string  // of the state directory
	parent    *parent // nil: the host works without groups
	ungrouped error   // why
	engine    *elastic.Engine
	low       *sys.LowFDs
	lookout   *lookout
	groups    *cgroupIsolator
	network   *networkIsolator
	logs      *logsIsolator
	isolators []Isolator
	filters   filters
	finisher  *finisher // of groups of further processes

	supervisor *supervision
	deaf       bool // see Config
	stubs      struct {
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
	end   *ending       // of the first process; nil if nobody listens for it
	ended chan struct{} // closed once saved.Exit is set
	hurry chan struct{} // closed once the sandbox is being destroyed

	released chan struct{} // closed once the sandbox is let go; nil if nobody listens

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
	Execs     []execState `json:"execs,omitempty"` // further processes in groups of their own
}

func openNative(ctx context.Context, cfg Config, dir *checkpoint.Dir, ids []string) (*nativeDriver, error) {
	d := &nativeDriver{scope: scopeOf(cfg.Root), network: newNetworkIsolator(cfg), logs: newLogsIsolator(cfg), finisher: newFinisher()}
	err := d.openGroups(cfg, func() (err error) {
		if d.root, err = cgroups.Open(cfg.CgroupMount); err == nil {
			d.parent, err = openParent(ctx, d.root, cfg.Parent, d.scope, dir, ids)
		}
		return err
	})
	if err == nil {
		d.low, err = sys.NewLowFDs()
	}
	if err == nil {
		d.engine, err = elastic.NewEngine()
	}
	if err == nil {
		d.lookout, err = newLookout()
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.supervisor, d.deaf = newSupervision(cfg, d.parent, d.engine), cfg.deaf
	if err := d.supervisor.open(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.isolators = []Isolator{d.network, d.logs} // first, to be cleaned up when the processes have ended
	d.groups = &cgroupIsolator{root: d.root, parent: d.parent, lacking: d.ungrouped}
	if d.parent != nil {
		d.engine.Above(d.parent.group)
		d.isolators = append(d.isolators, d.groups)
	}
	d.isolators = slices.Concat(d.isolators, []Isolator{namespaceIsolator{}, rootIsolator{}, processIsolator{}}, cfg.Isolators)
	return d, nil
}

func (d *nativeDriver) close() error {
	var errs []error
	if d.engine != nil {
		errs = append(errs, d.engine.Close())
	}
	d.finisher.close() // which nobody gives more to do now
	if d.parent != nil {
		errs = append(errs, d.parent.close())
	}
	if d.low != nil {
		errs = append(errs, d.low.Close())
	}
	if d.lookout != nil {
		errs = append(errs, d.lookout.close())
	}
	errs = append(errs, d.stubs.stub.Close(), d.supervisor.close())
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(append(errs, d.logs.close(), d.network.close())...)
}

func (d *nativeDriver) newBox() *box {
	b := &box{ended: make(chan struct{}), hurry: make(chan struct{})}
	if d.supervisor.client != nil {
		b.released = make(chan struct{})
	}
	return b
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
	b := d.newBox()
	if c.Cgroup() != nil {
		b.saved.Group = c.Cgroup().ID()
	} else if class := c.Spec.Class; class.Limits() != nil {
		c.missing = append(c.missing, "class "+class.String()+": "+d.ungrouped.Error())
	}
	b.saved.Missing = c.missing
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
func (d *nativeDriver) Start(ctx context.Context, c *Container, files []*os.File) (err error) {
	defer func() { err = starved(c, err) }()
	b := boxOf(c)
	if b == nil {
		return &StateError{State: StateCreating, Reason: "it is not whole yet"}
	}
	if st := b.state(); st != StateCreated {
		return &StateError{State: st, Reason: "its process was started already"}
	}
	if err := thawed(c, StateCreated); err != nil {
		return err
	}
	if d.supervisor.wanted() {
		return d.startSupervised(ctx, c, b, files)
	}
	l, err := d.launch(c, files, 0)
	if err != nil {
		return err
	}
	saved := b.saved
	saved.Starting = true
	if c.Cgroup() == nil {
		l.announce = d.announce(c, saved)
	}
	program, closeFiles, err := d.compile(l)
	if err != nil {
		return err
	}
	defer closeFiles()
	if err := c.Save(saved); err != nil {
		return err
	}
	child, err := l.start(ctx, program)
	if err != nil {
		return errors.Join(err, c.Save(b.saved))
	}
	return d.started(ctx, c, b, child, nil)
}

// starved puts a start that failed for lack of memory down to the sandbox's limit, if it
// has one: until the program runs the kernel's own memory counts, of mounts for instance.
func starved(c *Container, err error) error {
	limit, limited := c.Spec.Resources.Memory.Max.Value()
	if !limited || !errors.Is(err, syscall.ENOMEM) {
		return err
	}
	return fmt.Errorf("%w: what starting takes counts against memory.max, of %d bytes: set more", err, limit)
}

// launch has the isolators say how the process is started, as a child of the process
// from, or of this one if that is 0.
func (d *nativeDriver) launch(c *Container, files []*os.File, from int) (*Launch, error) {
	l := &Launch{UnifiedFD: -1, Files: files, spec: &c.Spec, from: from}
	for _, iso := range d.isolators {
		if li, ok := iso.(LaunchIsolator); ok {
			if err := li.Launch(c, l); err != nil {
				return nil, fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	return l, nil
}

// started takes over a running child, or ends it again. supervised is what the
// supervisor calls it, and nil if the child is this process's own.
func (d *nativeDriver) started(ctx context.Context, c *Container, b *box, child *launch.Child, supervised *supervise.Process) error {
	before := b.saved
	saved := before
	saved.PID, saved.StartedAt, saved.Missing = child.PID, time.Now(), slices.Clone(before.Missing)
	for _, d := range child.Degraded {
		saved.Missing = append(saved.Missing, d.Error())
	}
	var err error
	own := child
	if supervised != nil { // which may have ended, and be gone
		own, saved.Inode, saved.Since = nil, supervised.Inode, supervised.Since
	} else {
		saved.Inode, saved.Since, err = linux.Identify(child.PID, child.PIDFD.Int())
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
		b.saved, b.child, b.pidfd = saved, own, child.PIDFD
		b.mu.Unlock()
		if err = d.listen(c, b); err == nil {
			return nil
		}
		b.mu.Lock()
		b.saved, b.child, b.pidfd = before, nil, nil
		b.mu.Unlock()
	}
	kerr := sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGKILL)
	var werr error
	if supervised == nil {
		_, werr = child.Wait()
	} else {
		if errors.Is(kerr, syscall.ESRCH) {
			kerr = nil
		}
		_, _, werr = d.supervisor.exit(ctx, c.Spec.ID, *supervised)
		d.supervisor.forget(ctx, c.Spec.ID)
	}
	return errors.Join(err, kerr, werr, child.PIDFD.Close(), c.Save(before), markProcess(c, before))
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
func (d *nativeDriver) Freeze(ctx context.Context, c *Container) error { return c.Cgroup().Freeze(ctx) }

// Thaw lets them go on.
func (d *nativeDriver) Thaw(ctx context.Context, c *Container) error { return c.Cgroup().Thaw(ctx) }

// Check asks the kernel.
func (d *nativeDriver) Check(_ context.Context, c *Container) (Status, error) {
	b := boxOf(c)
	if b == nil {
		return Status{State: StateCreating}, nil
	}
	var st Status
	if c.Cgroup() != nil {
		var err error
		if st, err = checkGroup(c.Cgroup()); err != nil {
			return Status{}, err
		}
		st.PIDs += b.elsewhere(c)
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
	if b := boxOf(c); b != nil {
		if !isClosed(b.hurry) {
			close(b.hurry)
		}
		if b.state() == StateRunning {
			select {
			case <-b.ended:
			case <-ctx.Done():
				return fmt.Errorf("waiting for the end of process %d: %w", b.saved.PID, context.Cause(ctx))
			}
		}
		if err := b.waitExecs(ctx); err != nil {
			return err
		}
	}
	d.supervisor.forget(ctx, c.Spec.ID)
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
	b.end.drop()
	if b.released != nil && !isClosed(b.released) {
		close(b.released)
	}
	return errors.Join(append(errs, b.pidfd.Close(), b.releaseExecs())...)
}
