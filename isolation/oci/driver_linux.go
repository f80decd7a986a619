// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/opencontainers/cgroups/devices" // without it device rules are refused
	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// lives has the methods that need no libcontainer.
type lives = life.Lives

// Driver runs sandboxes by libcontainer. It implements every optional interface
// of [isolation.Driver]. One driver is for one host at a time.
type Driver struct {
	lives
	cfg   Config
	trees *life.Trees
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
	isolation.Surrounded
} = (*Driver)(nil)

// treesFile is the name of a list in Config.Root. No sandbox is called that.
const treesFile = "_parents"

// Open makes a driver for a host's Config.Drivers. Close frees it, after the host
// is closed.
func Open(cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	trees, err := life.OpenTrees(filepath.Join(cfg.Root, treesFile))
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	all, err := life.Open()
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	return &Driver{lives: all, cfg: cfg, trees: trees}, nil
}

// dir is libcontainer's directory for a sandbox. Ids are single path elements.
func (d *Driver) dir(id string) string { return filepath.Join(d.cfg.Root, id) }

// made is what libcontainer has of the container; nil if it has to be made or loaded.
func made(c *isolation.Container) *libcontainer.Container {
	lc, _ := life.Of(c).Made.(*libcontainer.Container)
	return lc
}

// Create has libcontainer accept the configuration and makes the group with its
// limits.
func (d *Driver) Create(ctx context.Context, c *isolation.Container) error {
	plan, err := convert(c)
	if err != nil {
		return err
	}
	if _, err := newProcess(plan.process); err != nil {
		return err
	}
	lc, err := libcontainer.Create(d.cfg.Root, c.Spec.ID, plan.config)
	if err != nil {
		return err
	}
	lacking, err := c.MakeGroup(ctx, limits(c))
	if err == nil {
		if err = life.Begin(c, lc, append(plan.missing, lacking...)); err == nil {
			return nil
		}
		err = errors.Join(err, c.RemoveGroup(context.WithoutCancel(ctx)), d.Release(c))
	}
	return errors.Join(err, os.RemoveAll(d.dir(c.Spec.ID)))
}

// limits are those of the spec that are not libcontainer's.
func limits(c *isolation.Container) cgroups.Resources {
	r := c.Spec.Resources
	r.Devices = cgroups.Devices{}
	return r
}

// Destroy ends every process and removes the groups and libcontainer's state. It
// goes by the sandbox's id and class alone, so that it finds what a crash left.
func (d *Driver) Destroy(ctx context.Context, c *isolation.Container) error {
	if err := d.end(ctx, c); err != nil {
		return err
	}
	if err := os.RemoveAll(d.dir(c.Spec.ID)); err != nil {
		return err
	}
	return d.Release(c)
}
