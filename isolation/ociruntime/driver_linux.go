// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
)

// Driver runs sandboxes by an OCI runtime. It implements every optional interface
// of [isolation.Driver]. It is for one host at a time.
type Driver struct {
	cfg    Config
	root   *cgroups.Root
	engine *elastic.Engine
	trees  *trees
}

var _ interface {
	isolation.Driver
	isolation.Recoverer
	isolation.Starter
	isolation.Waiter
	isolation.Signaler
	isolation.Freezer
	isolation.Updater
	isolation.Statter
	isolation.Watcher
	isolation.Releaser
} = (*Driver)(nil)

// New makes a driver for a host's Config.Drivers. The runtime itself is looked for
// by each Create. Close frees the driver, after the host was closed.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.complete()
	err := cfg.Validate()
	if err == nil {
		err = os.MkdirAll(cfg.Root, 0o700)
	}
	if err == nil && cfg.Subreaper {
		err = sys.SetSubreaper()
	}
	var others *trees
	if err == nil {
		others, err = openTrees(filepath.Join(cfg.Root, madeFile))
	}
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	root, err := cgroups.Open(cfg.CgroupMount)
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	engine, err := elastic.NewEngine()
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", errors.Join(err, root.Close()))
	}
	return &Driver{cfg: cfg, root: root, engine: engine, trees: others}, nil
}

// Close frees what the driver holds. The sandboxes live on.
func (d *Driver) Close() error { return errors.Join(d.engine.Close(), d.root.Close()) }

// Create makes the group with its limits and the bundle. It fails with a
// [RuntimeError] if there is no such runtime.
func (d *Driver) Create(ctx context.Context, c *isolation.Container) error {
	b := newBox()
	var err error
	if b.saved.Missing, err = d.accepts(ctx, c.Spec); err != nil {
		return err
	}
	if c.Cgroup, err = d.makeGroup(ctx, c.Spec); err != nil {
		return err
	}
	if err = d.makeBundle(ctx, c.Spec); err == nil {
		b.saved.Group = c.Cgroup.ID()
		if err = c.Save(b.saved); err == nil {
			c.Private = b
			return nil
		}
		err = errors.Join(err, d.removeBundle(c.Spec.ID))
	}
	return errors.Join(err, c.Cgroup.Destroy(context.WithoutCancel(ctx)), c.Cgroup.Close())
}

// path is the group of a sandbox.
func (d *Driver) path(id string) string { return d.cfg.Parent + "/" + id }

// makeGroup makes the group with the limits that are acknowledged.
func (d *Driver) makeGroup(ctx context.Context, s isolation.Spec) (*cgroups.Cgroup, error) {
	return d.root.CreateWith(ctx, d.path(s.ID), 0, s.Resources)
}

// openGroup opens a group that an earlier process has made, if it is there.
func (d *Driver) openGroup(c *isolation.Container) error {
	g, err := d.root.Open(d.path(c.Spec.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		g.Own()
		c.Cgroup = g
	}
	return err
}

// Destroy ends every process, has the runtime forget the container, and removes
// the group and the bundle. It goes by the sandbox's id alone, so that it finds
// what a crash left. A runtime that cannot be asked, or hangs, leaves no more than
// one that can: its state is in the bundle.
func (d *Driver) Destroy(ctx context.Context, c *isolation.Container) error {
	if c.Cgroup == nil {
		if err := d.openGroup(c); err != nil {
			return err
		}
	}
	if c.Cgroup != nil {
		if err := c.Cgroup.Kill(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
			return err
		}
	}
	b := boxOf(c)
	if b != nil {
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	d.forget(ctx, c.Spec.ID)
	if c.Cgroup != nil {
		if err := c.Cgroup.Destroy(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
			return err
		}
	}
	if err := d.trees.remove(d.path(c.Spec.ID)); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := d.removeBundle(c.Spec.ID); err != nil {
		return err
	}
	return d.Release(c)
}

// forgetting bounds a runtime's delete, of a container whose processes are dead.
const forgetting = 10 * time.Second

// forget has the runtime delete a container that it knows.
func (d *Driver) forget(ctx context.Context, id string) {
	if _, err := os.Stat(d.state(id)); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forgetting)
	defer cancel()
	if cmd, err := d.command(ctx, id, "delete", "--force"); err == nil {
		_ = d.run(ctx, id, cmd, "delete") // what it would have removed is removed
	}
}

// Release frees what this process holds of a sandbox.
func (d *Driver) Release(c *isolation.Container) error {
	var errs []error
	if b := boxOf(c); b != nil {
		errs = append(errs, b.release())
	}
	if c.Cgroup != nil {
		errs = append(errs, c.Cgroup.Close())
	}
	return errors.Join(errs...)
}

// Check asks the kernel.
func (d *Driver) Check(_ context.Context, c *isolation.Container) (isolation.Status, error) {
	b := boxOf(c)
	if b == nil {
		return isolation.Status{State: isolation.StateCreating}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var st isolation.Status
	if !b.remaking { // a start has failed; nothing is in the group
		var err error
		if st, err = c.GroupStatus(); err != nil {
			if errors.Is(err, fs.ErrNotExist) { // a runtime removes it from one tree after the other
				err = fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
			}
			return isolation.Status{}, err
		}
	}
	st.State, st.StartedAt, st.Missing = b.state(), b.saved.StartedAt, slices.Clone(b.saved.Missing)
	if b.saved.Exit != nil {
		exit := *b.saved.Exit
		st.Exit = &exit
	} else {
		st.PID = b.saved.PID
	}
	return st, nil
}
