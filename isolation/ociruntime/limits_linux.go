// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"iter"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// whole is an error for a sandbox that is still being made.
func whole(c *isolation.Container) error {
	if boxOf(c) == nil {
		return &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"}
	}
	return nil
}

// Plan is what Update would write to the group.
func (d *Driver) Plan(c *isolation.Container, r cgroups.Resources) (cgroups.Plan, error) {
	if err := whole(c); err != nil {
		return cgroups.Plan{}, err
	}
	return c.Cgroup.Plan(r)
}

// Update changes the group.
func (d *Driver) Update(ctx context.Context, c *isolation.Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if err := whole(c); err != nil {
		return cgroups.Result{}, err
	}
	return c.Cgroup.UpdateWith(ctx, r, cfg)
}

// Stat measures the group.
func (d *Driver) Stat(c *isolation.Container, s *cgroups.Stats) error {
	if err := whole(c); err != nil {
		return err
	}
	return c.Cgroup.Stat(s)
}

// Freeze stops every process of the group.
func (d *Driver) Freeze(ctx context.Context, c *isolation.Container) error {
	return c.Cgroup.Freeze(ctx)
}

// Thaw lets them go on.
func (d *Driver) Thaw(ctx context.Context, c *isolation.Container) error { return c.Cgroup.Thaw(ctx) }

// Watch merges the group's events with the end of the first process.
func (d *Driver) Watch(ctx context.Context, c *isolation.Container, pressure []elastic.Threshold) iter.Seq2[isolation.Event, error] {
	if err := whole(c); err != nil {
		return func(yield func(isolation.Event, error) bool) { yield(nil, err) }
	}
	b := boxOf(c)
	return c.GroupEvents(ctx, d.engine, pressure, b.ended, func() isolation.Event {
		b.mu.Lock()
		defer b.mu.Unlock()
		return isolation.Exited{Time: b.saved.Exit.At, Status: *b.saved.Exit}
	})
}
