// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package devfilter

import "github.com/caisson-run/caisson/internal/feature"

var errOther error = &feature.UnsupportedError{Feature: "device filters", Reason: "only Linux has them"}

// Program is a loaded program; there is none on this system.
type Program struct {
	ID   uint32
	Name string
}

// Close is nil.
func (*Program) Close() error { return nil }

// Filters are the programs of a group; there are none on this system.
type Filters struct{ Programs []*Program }

// Close does nothing.
func (*Filters) Close() {}

// Load returns ErrNotSupported.
func Load([]Rule) (*Program, error) { return nil, errOther }

// Attached returns ErrNotSupported.
func Attached(int) (*Filters, error) { return nil, errOther }

// Replace returns ErrNotSupported.
func Replace(int, ...*Program) error { return errOther }
