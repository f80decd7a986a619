// SPDX-License-Identifier: Apache-2.0

//go:build !linux || !cgo

package oci

import (
	"context"

	"github.com/caisson-run/caisson/isolation"
)

func lacking() error {
	return &isolation.UnsupportedError{Feature: "oci", Reason: "libcontainer needs Linux and cgo"}
}

// Init does nothing here.
func Init() {}

// Driver runs sandboxes by libcontainer. Here there is none.
type Driver struct{}

// Open is not supported here.
func Open(cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return nil, lacking()
}

// Close has nothing to free.
func (*Driver) Close() error { return nil }

// Create is not supported here.
func (*Driver) Create(context.Context, *isolation.Container) error { return lacking() }

// Destroy is not supported here.
func (*Driver) Destroy(context.Context, *isolation.Container) error { return lacking() }

// Check is not supported here.
func (*Driver) Check(context.Context, *isolation.Container) (isolation.Status, error) {
	return isolation.Status{}, lacking()
}
