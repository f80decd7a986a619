// SPDX-License-Identifier: Apache-2.0

package life

import (
	"context"
	"errors"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// Kill opens the group if that was not done, and ends every process in it.
func Kill(ctx context.Context, c *isolation.Container) error {
	if c.Cgroup() == nil {
		if err := c.OpenGroup(); err != nil && !errors.Is(err, isolation.ErrNotFound) {
			return err
		}
	}
	if c.Cgroup() == nil {
		return nil
	}
	if err := c.Cgroup().Kill(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
		return err
	}
	return nil
}
