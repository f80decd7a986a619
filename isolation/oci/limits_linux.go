// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"iter"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// Freeze stops every process of the group.
func (d *Driver) Freeze(ctx context.Context, c *isolation.Container) error {
	return c.Cgroup.Freeze(ctx)
}

// Thaw lets them go on.
func (d *Driver) Thaw(ctx context.Context, c *isolation.Container) error { return c.Cgroup.Thaw(ctx) }

// Plan is what Update would write to the group.
func (d *Driver) Plan(c *isolation.Container, r cgroups.Resources) (cgroups.Plan, error) {
	if err := updatable(c, r); err != nil {
		return cgroups.Plan{}, err
	}
	return c.Cgroup.Plan(r)
}

// Update changes the group.
func (d *Driver) Update(ctx context.Context, c *isolation.Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if err := updatable(c, r); err != nil {
		return cgroups.Result{}, err
	}
	return c.Cgroup.UpdateWith(ctx, r, cfg)
}

func updatable(c *isolation.Container, r cgroups.Resources) error {
	if boxOf(c) == nil {
		return &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"}
	}
	if !r.Devices.IsZero() {
		return &isolation.UnsupportedError{
			Feature: "devices", Reason: "libcontainer's device rules stay as they were made; a sandbox of the native driver can change its own",
		}
	}
	return nil
}

// Stat measures the group.
func (d *Driver) Stat(c *isolation.Container, s *cgroups.Stats) error {
	if boxOf(c) == nil {
		return &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"}
	}
	return c.Cgroup.Stat(s)
}

// Watch tells the group's events and the end of the first process.
func (d *Driver) Watch(ctx context.Context, c *isolation.Container, pressure []elastic.Threshold) iter.Seq2[isolation.Event, error] {
	b := boxOf(c)
	if b == nil {
		return func(yield func(isolation.Event, error) bool) {
			yield(nil, &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"})
		}
	}
	return c.GroupEvents(ctx, d.engine, pressure, b.ended, func() isolation.Event {
		b.mu.Lock()
		defer b.mu.Unlock()
		return isolation.Exited{Time: b.saved.Exit.At, Status: *b.saved.Exit}
	})
}
