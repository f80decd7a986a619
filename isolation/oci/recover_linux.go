// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"os"
	"path/filepath"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// Recover finds the group and the process of a sandbox that an earlier agent made. An
// init that was not let go is taken back with its start: nobody was told of it.
func (d *Driver) Recover(ctx context.Context, c *isolation.Container) error {
	return life.Recover(ctx, &d.lives, c, life.Recovery{
		CutOff: func() bool {
			_, err := os.Lstat(filepath.Join(d.dir(c.Spec.ID), fifo))
			return err == nil
		},
		Again: func(ctx context.Context) error { return d.again(ctx, c) },
	})
}

// again takes back a start that failed, so that the next one makes the container anew:
// libcontainer takes one for started that was once.
func (d *Driver) again(ctx context.Context, c *isolation.Container) error {
	if b := life.Of(c); b != nil {
		b.Made = nil
	}
	if err := d.end(ctx, c); err != nil {
		return err
	}
	return os.RemoveAll(d.dir(c.Spec.ID))
}

// end ends every process and removes the group, in the hierarchies that only
// libcontainer has put it in as well.
func (d *Driver) end(ctx context.Context, c *isolation.Container) error {
	if err := life.Kill(ctx, c); err != nil {
		return err
	}
	if err := life.Of(c).Over(ctx); err != nil {
		return err
	}
	if err := c.RemoveGroup(ctx); err != nil {
		return err
	}
	return d.trees.Remove(c.GroupPath())
}
