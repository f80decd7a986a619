// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
)

// CreateWith is [Root.Create] and [Cgroup.Update] in one: the group exists with
// everything that res names, or not at all. It is faster than the two, since
// what a group holds that nobody has touched is known and need not be read.
//
// Errors are those of both.
func (r *Root) CreateWith(ctx context.Context, path string, want Controllers, res Resources) (*Cgroup, error) {
	if err := errors.Join(res.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	c, err := r.Create(path, want)
	if err != nil {
		return nil, err
	}
	return c.limited(ctx, res)
}

// limited is c, which is new, with these limits; or it is removed.
func (c *Cgroup) limited(ctx context.Context, res Resources) (*Cgroup, error) {
	// The update takes the kernel's defaults for granted, and its read-back is
	// of the kernel. Where they do not hold, as in a kernel that lacks a file,
	// something fails; the second one then finds out what and says so.
	err := c.updateFresh(ctx, res)
	if err != nil {
		_, err = c.Update(ctx, res)
	}
	if err != nil {
		return nil, errors.Join(err, c.Remove(context.WithoutCancel(ctx)), c.Close())
	}
	return c, nil
}

func (c *Cgroup) updateFresh(ctx context.Context, res Resources) error {
	t := c.beginValid(res)
	defer t.end()
	t.trees[0].fresh = true
	_, err := t.update(ctx)
	return err
}
