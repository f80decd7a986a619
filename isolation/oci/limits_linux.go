// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// Plan is what Update would write to the group.
func (d *Driver) Plan(c *isolation.Container, r cgroups.Resources) (cgroups.Plan, error) {
	if err := updatable(r); err != nil {
		return cgroups.Plan{}, err
	}
	return d.lives.Plan(c, r)
}

// Update changes the group.
func (d *Driver) Update(ctx context.Context, c *isolation.Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if err := updatable(r); err != nil {
		return cgroups.Result{}, err
	}
	return d.lives.Update(ctx, c, r, cfg)
}

func updatable(r cgroups.Resources) error {
	if !r.Devices.IsZero() {
		return &isolation.UnsupportedError{
			Feature: "devices", Reason: "libcontainer's device rules stay as they were made; a sandbox of the native driver can change its own",
		}
	}
	return nil
}
