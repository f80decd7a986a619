// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"io/fs"
)

// Remove removes the group.
func (c *Cgroup) Remove(ctx context.Context) error {
	var errs []error
	for _, n := range c.places() {
		if !n.created.Load() {
			continue
		}
		err := n.in.dir.Rmdir(c.path, n.dir.ID())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
