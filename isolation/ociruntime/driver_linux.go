// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// Driver runs sandboxes by an OCI runtime. It implements every optional interface
// of [isolation.Driver]. It is for one host at a time.
type Driver struct {
	lives
	cfg   Config
	trees *life.Trees
}

// lives has the methods that need no runtime.
type lives = life.Lives

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
	isolation.Surrounded
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
	var trees *life.Trees
	if err == nil {
		trees, err = life.OpenTrees(filepath.Join(cfg.Root, treesFile))
	}
	var all lives
	if err == nil {
		all, err = life.Open()
	}
	if err != nil {
		return nil, fmt.Errorf("open driver: %w", err)
	}
	return &Driver{lives: all, cfg: cfg, trees: trees}, nil
}

// treesFile is the name of a list in Config.Root. No sandbox is called that.
const treesFile = "_groups"

// Create makes the group with its limits and the bundle. It fails with a
// [RuntimeError] if there is no such runtime.
func (d *Driver) Create(ctx context.Context, c *isolation.Container) error {
	missing, err := d.accepts(ctx, c)
	if err != nil {
		return err
	}
	lacking, err := c.MakeGroup(ctx, c.Spec.Resources)
	if err != nil {
		return err
	}
	if err = d.makeBundle(ctx, c); err == nil {
		if err = life.Begin(c, nil, append(missing, lacking...)); err == nil {
			return nil
		}
		err = errors.Join(err, d.removeBundle(c.Spec.ID))
	}
	return errors.Join(err, c.RemoveGroup(context.WithoutCancel(ctx)), d.Release(c))
}

// Destroy ends every process, has the runtime forget the container, and removes
// the group and the bundle. It goes by the sandbox's id and class alone, so that it
// finds what a crash left. A runtime that cannot be asked, or hangs, leaves no more than
// one that can: its state is in the bundle.
func (d *Driver) Destroy(ctx context.Context, c *isolation.Container) error {
	if err := life.Kill(ctx, c); err != nil {
		return err
	}
	if err := life.Of(c).Over(ctx); err != nil {
		return err
	}
	d.forget(ctx, c.Spec.ID)
	if err := c.RemoveGroup(ctx); err != nil {
		return err
	}
	if err := d.trees.Remove(c.GroupPath()); err != nil {
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
