// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
)

// adoptedName is the driver's of containers that were adopted.
const adoptedName = "adopted"

// adoptedDriver takes charge of groups that somebody else made. It creates and
// ends nothing.
type adoptedDriver struct {
	root   *cgroups.Root
	parent string // where the host's own sandboxes are
	engine *elastic.Engine

	mu    sync.Mutex
	taken map[cgroups.ID]string // which sandbox has a group, in any tree
}

// adoption is what the driver knows of one container in this process.
type adoption struct {
	saved adoptedState

	mu    sync.Mutex
	pid   int           // the process whose end is waited for; 0 if there is none
	pidfd *sys.FD       // that process
	drop  func()        // stops waiting for it
	ended chan struct{} // closed once no process is left
	at    time.Time     // when it was
	err   error         // why that is not known
	taken bool          // the group is noted as this container's
	freed bool
	left  chan struct{} // closed once it is freed
}

// adoptedState is what must be known again after a restart.
type adoptedState struct {
	Places []cgroups.Place   `json:"places"`
	PID    int               `json:"pid,omitzero"`
	Since  uint64            `json:"since,omitzero"`
	Found  cgroups.Resources `json:"found,omitzero"` // the limits that the container came with
	Ended  bool              `json:"ended,omitzero"` // its end was told of
}

func newAdoptedDriver(d *nativeDriver, parent string) *adoptedDriver {
	return &adoptedDriver{root: d.root, parent: parent, engine: d.engine, taken: make(map[cgroups.ID]string)}
}

// adoptionOf is the driver's part of c.
func adoptionOf(c *Container) (*adoption, error) {
	if a, ok := c.Private.(*adoption); ok {
		return a, nil
	}
	return nil, &InvalidError{Field: "driver", Value: adoptedName, Reason: "Host.Adopt takes charge of containers, Create makes them"}
}

// hold finds the target's group and fills c in. Nothing is written.
func (d *adoptedDriver) hold(c *Container, t Target) error {
	a := &adoption{left: make(chan struct{}), ended: make(chan struct{})}
	c.Private = a
	err := d.find(c, a, t)
	if err == nil {
		a.saved.Places, err = c.Cgroup().Places()
	}
	if err == nil {
		err = d.permit(a.saved.Places, c.Cgroup())
	}
	if err == nil {
		a.saved.Found, err = c.Cgroup().Resources()
	}
	if err != nil {
		return errors.Join(err, d.Release(c))
	}
	return nil
}

func (d *adoptedDriver) find(c *Container, a *adoption, t Target) (err error) {
	if t.PID == 0 {
		g, err := d.root.Adopt(t.Cgroup)
		if err != nil {
			return err
		}
		c.SetCgroup(g)
		if populated, err := g.Populated(); populated || err != nil {
			return err
		}
		return &InvalidError{Field: "cgroup", Value: clip(t.Cgroup), Reason: "no process is in it"}
	}
	// Held first: as long as this process lives, what /proc says of the number
	// is about it.
	pidfd, err := sys.PidfdOpen(t.PID)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) { // later kernels say the latter
		return &InvalidError{Field: "pid", Value: strconv.Itoa(t.PID), Reason: "a thread's, not a process's"}
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	g, err := d.root.AdoptProcess(t.PID)
	if err != nil {
		return err
	}
	c.SetCgroup(g)
	a.saved.PID = t.PID
	if a.saved.Since, err = linux.StartTime(t.PID); err != nil {
		return err
	}
	if err := linux.Exists(pidfd.Int()); err != nil {
		return fmt.Errorf("process %d has ended: %w", t.PID, err)
	}
	return nil
}

// permit refuses groups that are not foreign.
func (d *adoptedDriver) permit(places []cgroups.Place, g *cgroups.Cgroup) error {
	for _, p := range places {
		if overlap(p.Path, d.parent) {
			return &TakenError{Cgroup: p.Path, By: "the host's own sandboxes"}
		}
	}
	if g.HoldsCaller() {
		return &InvalidError{Field: "target", Value: clip(g.Path()), Reason: "this process is in the group itself"}
	}
	return nil
}

// overlap reports whether one of two groups is the other, or below it.
func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// take notes that the group of c is c's, unless another sandbox has it.
func (d *adoptedDriver) take(c *Container, a *adoption) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range a.saved.Places {
		if by, taken := d.taken[p.ID]; taken {
			return &TakenError{Cgroup: p.Path, By: fmt.Sprintf("sandbox %q", by)}
		}
	}
	for _, p := range a.saved.Places {
		d.taken[p.ID] = c.Spec.ID
	}
	a.taken = true
	return nil
}

// Create records what [Host.Adopt] holds.
func (d *adoptedDriver) Create(_ context.Context, c *Container) error {
	a, err := adoptionOf(c)
	if err == nil {
		err = d.take(c, a)
	}
	if err != nil {
		return err
	}
	c.saveLater(a.saved)
	return d.follow(c, a)
}

// follow waits for the end of a process of the container: when that has ended,
// others may go on.
func (d *adoptedDriver) follow(c *Container, a *adoption) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.freed {
		return nil
	}
	err := a.pidfd.Close()
	a.pid, a.pidfd = 0, nil
	if err == nil {
		a.pid, a.pidfd, err = a.next(c.Cgroup())
	}
	if err == nil && a.pidfd != nil {
		a.drop, err = d.engine.OnExit(a.pidfd.Int(), func() { _ = d.follow(c, a) }) // kept in a.err
		if err == nil {
			a.told(c, false)
			return nil
		}
	}
	a.at, a.err = time.Now(), err
	close(a.ended)
	if err == nil && a.told(c, true) && c.ended != nil {
		c.ended(ExitStatus{At: a.at})
	}
	return err
}

// told notes whether the container's end was told of, and reports whether that is
// news. a.mu is held.
func (a *adoption) told(c *Container, ended bool) bool {
	if a.saved.Ended == ended {
		return false
	}
	a.saved.Ended = ended
	c.saveLater(a.saved)
	go func() { _ = c.record.flush() }() // who comes later would tell of it again: worse, and no harm
	return true
}

// next holds a process of the group, if there is one: that which was named, or
// the one of the lowest number.
func (a *adoption) next(g *cgroups.Cgroup) (pid int, pidfd *sys.FD, err error) {
	const attempts = 10 // each fails only if all that were listed have ended since
	for range attempts {
		pids, err := g.AllProcs()
		if errors.Is(err, cgroups.ErrGone) || err == nil && len(pids) == 0 {
			return 0, nil, nil
		}
		if err != nil {
			return 0, nil, err
		}
		if slices.Contains(pids, a.saved.PID) {
			if pidfd, err = holdProcess(a.saved.PID, a.saved.Since, 0); err == nil {
				return a.saved.PID, pidfd, nil
			}
		}
		for _, pid := range pids {
			pidfd, err := sys.PidfdOpen(pid)
			if err != nil {
				continue // it has ended
			}
			// Held, then looked for again: the number may have changed hands.
			if now, err := g.AllProcs(); err == nil && slices.Contains(now, pid) {
				return pid, pidfd, nil
			}
			if err := pidfd.Close(); err != nil {
				return 0, nil, err
			}
		}
	}
	return 0, nil, errors.New("the container's processes end faster than they can be held")
}

// Recover finds the container that an earlier process adopted.
func (d *adoptedDriver) Recover(_ context.Context, c *Container) error {
	a := &adoption{left: make(chan struct{}), ended: make(chan struct{})}
	if ok, err := c.Saved(&a.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", ErrNotFound))
	}
	g, err := d.root.Readopt(a.saved.Places)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	c.SetCgroup(g)
	c.Private = a
	if err = d.permit(a.saved.Places, g); err == nil {
		err = d.take(c, a)
	}
	if err == nil {
		err = d.follow(c, a)
	}
	if err != nil {
		return errors.Join(err, d.Release(c))
	}
	return nil
}

// Destroy lets go. The container is its owner's.
func (d *adoptedDriver) Destroy(_ context.Context, c *Container) error { return d.Release(c) }

// Release frees what this process holds.
func (d *adoptedDriver) Release(c *Container) error {
	a, err := adoptionOf(c)
	if err != nil {
		return nil //nolint:nilerr // never held: nothing to free
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.freed {
		return nil
	}
	a.freed = true
	close(a.left)
	if a.drop != nil {
		a.drop()
	}
	err = a.pidfd.Close()
	if c.Cgroup() == nil {
		return err
	}
	if a.taken {
		d.mu.Lock()
		for _, p := range a.saved.Places {
			delete(d.taken, p.ID)
		}
		d.mu.Unlock()
	}
	return errors.Join(err, c.Cgroup().Close())
}

// Check asks the kernel.
func (d *adoptedDriver) Check(_ context.Context, c *Container) (Status, error) {
	a, err := adoptionOf(c)
	if err != nil {
		return Status{}, err
	}
	st, err := checkGroup(c.Cgroup())
	if errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("%w: it was released: %w", ErrNotFound, err)
	}
	if err != nil {
		return Status{}, err
	}
	populated, err := c.Cgroup().Populated()
	if err != nil {
		return Status{}, err
	}
	st.Adopted, st.State = true, StateRunning
	a.mu.Lock()
	defer a.mu.Unlock()
	if st.PID = a.pid; !populated {
		st.State, st.PID, st.Exit = StateExited, 0, &ExitStatus{At: a.at}
	}
	return st, nil
}

// found is what the limits that were changed since c was adopted were then.
func (d *adoptedDriver) found(c *Container) (back cgroups.Resources, err error) {
	a, err := adoptionOf(c)
	if err != nil {
		return back, err
	}
	changed := c.Spec.Resources
	if changed.CPU.Idle != cgroups.Keep && !a.saved.Found.CPU.Weight.IsZero() {
		changed.CPU.Weight = a.saved.Found.CPU.Weight // the kernel forgot it
	}
	back, unknown := a.saved.Found.Only(changed)
	if len(unknown) > 0 {
		return back, &UnsupportedError{Feature: "restoring " + strings.Join(unknown, ", "), Reason: "the kernel did not tell what it was"}
	}
	return back, nil
}

// Plan is what Update would write to the group.
func (d *adoptedDriver) Plan(c *Container, r cgroups.Resources) (cgroups.Plan, error) {
	return c.Cgroup().Plan(r)
}

// Update changes the group.
func (d *adoptedDriver) Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	return c.Cgroup().UpdateWith(ctx, r, cfg)
}

// due is all of it.
func (d *adoptedDriver) due(_ *Container, r cgroups.Resources) (cgroups.Resources, error) {
	return r, nil
}

// heed has nothing to do.
func (d *adoptedDriver) heed(context.Context, *Container, cgroups.Resources) error { return nil }

// Stat measures the group.
func (d *adoptedDriver) Stat(c *Container, s *cgroups.Stats) error { return c.Cgroup().Stat(s) }

// Freeze stops every process of the group.
func (d *adoptedDriver) Freeze(ctx context.Context, c *Container) error {
	return c.Cgroup().Freeze(ctx)
}

// Thaw lets them go on.
func (d *adoptedDriver) Thaw(ctx context.Context, c *Container) error { return c.Cgroup().Thaw(ctx) }

// Watch merges the group's events with the end of the container's last process.
// Pressure that the kernel does not count for the container is told first, and
// the rest goes on.
func (d *adoptedDriver) Watch(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error] {
	a, err := adoptionOf(c)
	if err != nil {
		return failed(err)
	}
	return func(yield func(Event, error) bool) {
		ended, err := d.awaken(c, a)
		if err != nil {
			yield(nil, err)
			return
		}
		var counted []elastic.Threshold
		for _, t := range pressure {
			var p cgroups.Pressure
			err := c.Cgroup().Pressure(t.Resource, &p)
			if !errors.Is(err, ErrNotSupported) {
				counted = append(counted, t)
				continue
			}
			if !yield(Failed{Time: time.Now(), What: t.Resource.String() + " pressure", Err: err}, nil) {
				return
			}
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		go func() { // who lets go of the container ends no process and no group
			select {
			case <-a.left:
				stop()
			case <-ctx.Done():
			}
		}()
		watchGroup(ctx, d.engine, c, c.Cgroup(), counted, ended, a.last, yield)
	}
}

// awaken returns what is closed at the end of the container, which has a new
// life if its owner put processes into the group again.
func (d *adoptedDriver) awaken(c *Container, a *adoption) (ended <-chan struct{}, err error) {
	populated, err := c.Cgroup().Populated()
	a.mu.Lock()
	again := err == nil && populated && !a.at.IsZero() && !a.freed
	if again {
		a.ended, a.at, a.err = make(chan struct{}), time.Time{}, nil
	}
	ended = a.ended
	a.mu.Unlock()
	switch {
	case again:
		err = d.follow(c, a)
	case errors.Is(err, cgroups.ErrGone), errors.Is(err, os.ErrClosed): // watching says so
		err = nil
	}
	return ended, err
}

// last is the last event of the container. How it ended, only its parent knows.
func (a *adoption) last() (Event, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	return Exited{Time: a.at, Status: ExitStatus{At: a.at}}, nil
}
