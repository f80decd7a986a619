// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ociruntime

import "github.com/caisson-run/caisson/isolation"

// Driver runs sandboxes by an OCI runtime, on Linux.
type Driver struct{ isolation.Driver }

// New fails: there are no cgroups here.
func New(Config) (*Driver, error) {
	return nil, &isolation.UnsupportedError{Feature: "OCI runtimes", Reason: "only on Linux"}
}

// Close does nothing here.
func (*Driver) Close() error { return nil }
