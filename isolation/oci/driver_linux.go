// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	occgroups "github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // without it device rules are refused
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// Driver runs sandboxes by libcontainer. It implements every optional interface
// of [isolation.Driver]. One driver is for one host at a time.
type Driver struct {
	cfg     Config
	root    *cgroups.Root
	engine  *elastic.Engine
	parents *parents
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
	isolation.Execer
	isolation.Releaser
} = (*Driver)(nil)

// Open makes a driver for a host's Config.Drivers. Close frees it, after the host
// is closed.
func Open(cfg Config) (*Driver, error) {
	cfg.Parent = cmp.Or(cfg.Parent, "caisson")
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	parents, err := openParents(filepath.Join(cfg.Root, parentsFile))
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	// libcontainer looks nowhere else.
	root, err := cgroups.Open("")
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	engine, err := elastic.NewEngine()
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", errors.Join(err, root.Close()))
	}
	return &Driver{cfg: cfg, root: root, engine: engine, parents: parents}, nil
}

// Close frees what the driver holds. The sandboxes live on.
func (d *Driver) Close() error { return errors.Join(d.engine.Close(), d.root.Close()) }

// path is the group of a sandbox.
func (d *Driver) path(id string) string { return d.cfg.Parent + "/" + id }

// dir is libcontainer's directory for a sandbox. Ids are single path elements.
func (d *Driver) dir(id string) string { return filepath.Join(d.cfg.Root, id) }

// Create has libcontainer accept the configuration and makes the group with its
// limits.
func (d *Driver) Create(ctx context.Context, c *isolation.Container) error {
	plan, err := d.convert(c.Spec)
	if err != nil {
		return err
	}
	if _, err := newProcess(plan.process); err != nil {
		return err
	}
	b := newBox()
	if b.container, err = libcontainer.Create(d.cfg.Root, c.Spec.ID, plan.config); err != nil {
		return err
	}
	if err = d.makeGroup(ctx, c); err == nil {
		b.saved = state{Group: c.Cgroup.ID(), Missing: plan.missing}
		if err = c.Save(b.saved); err == nil {
			c.Private = b
			return nil
		}
		err = errors.Join(err, d.endGroup(context.WithoutCancel(ctx), c))
	}
	return errors.Join(err, os.RemoveAll(d.dir(c.Spec.ID)))
}

// makeGroup makes the group with the limits of the spec.
func (d *Driver) makeGroup(ctx context.Context, c *isolation.Container) error {
	r := c.Spec.Resources
	r.Devices = cgroups.Devices{} // libcontainer's
	g, err := d.root.CreateWith(ctx, d.path(c.Spec.ID), c.Spec.Controllers, r)
	if err != nil {
		return err
	}
	c.Cgroup = g
	return nil
}

// endGroup ends every process of the group and removes it, in the hierarchies
// that only libcontainer has put it in as well.
func (d *Driver) endGroup(ctx context.Context, c *isolation.Container) error {
	if c.Cgroup == nil {
		g, err := d.root.Open(d.path(c.Spec.ID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			g.Own()
			c.Cgroup = g
		}
	}
	if c.Cgroup != nil {
		if err := c.Cgroup.Kill(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
			return err
		}
	}
	m, err := d.manager(c.Spec.ID)
	if err != nil {
		return err
	}
	if err := m.Destroy(); err != nil {
		return fmt.Errorf("remove libcontainer's groups: %w", err)
	}
	if c.Cgroup != nil {
		if err := c.Cgroup.Destroy(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
			return err
		}
	}
	return nil
}

// manager is libcontainer's view of the group of a sandbox.
func (d *Driver) manager(id string) (occgroups.Manager, error) {
	return manager.New(&occgroups.Cgroup{Path: "/" + d.path(id), Resources: &occgroups.Resources{}})
}

// Destroy ends every process and removes the groups and libcontainer's state. It
// goes by the sandbox's id alone, so that it finds what a crash left.
func (d *Driver) Destroy(ctx context.Context, c *isolation.Container) error {
	if err := d.endGroup(ctx, c); err != nil {
		return err
	}
	if b := boxOf(c); b != nil {
		if err := b.waitAll(ctx); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.dir(c.Spec.ID)); err != nil {
		return err
	}
	return errors.Join(d.Release(c), d.parents.sweep())
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
	st, err := c.GroupStatus()
	if err != nil {
		return isolation.Status{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st.State, st.StartedAt, st.Missing = b.state(), b.saved.StartedAt, slices.Clone(b.saved.Missing)
	if b.saved.Exit != nil {
		exit := *b.saved.Exit
		st.Exit = &exit
	} else {
		st.PID = b.saved.PID
	}
	return st, nil
}
