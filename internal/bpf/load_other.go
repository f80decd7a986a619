// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bpf

import "github.com/caisson-run/caisson/internal/feature"

var errOther error = &feature.UnsupportedError{Feature: "BPF", Reason: "only Linux has it"}

// Program is a loaded program; there is none on this system.
type Program struct {
	ID   uint32
	Name string
}

// FD is none.
func (*Program) FD() int { return -1 }

// Close is nil.
func (*Program) Close() error { return nil }

// Filters are the programs of a group; there are none on this system.
type Filters struct{ Programs []*Program }

// Close does nothing.
func (*Filters) Close() {}

// Load returns ErrNotSupported.
func Load(Type, string, []byte) (*Program, error) { return nil, errOther }

// Attached returns ErrNotSupported.
func Attached(Type, int) (*Filters, error) { return nil, errOther }

// Add returns ErrNotSupported.
func Add(Type, int, *Program) error { return errOther }

// Remove returns ErrNotSupported.
func Remove(Type, int, *Program) error { return errOther }

// Replace returns ErrNotSupported.
func Replace(Type, int, ...*Program) error { return errOther }
