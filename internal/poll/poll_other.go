// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package poll

import (
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

var errOther error = &feature.UnsupportedError{Feature: "epoll", Reason: "only Linux has it"}

// Poller is a set of descriptors to wait for; there is none on this system.
type Poller struct{}

// New returns ErrNotSupported.
func New(func()) (*Poller, error) { return nil, errOther }

// Add returns ErrNotSupported.
func (*Poller) Add(int, Events, func(Events)) (Token, error) { return 0, errOther }

// Remove returns ErrNotSupported.
func (*Poller) Remove(Token) error { return errOther }

// Arm returns ErrNotSupported.
func (*Poller) Arm(time.Duration) error { return errOther }

// Wait returns ErrNotSupported.
func (*Poller) Wait() error { return errOther }

// Close is nil.
func (*Poller) Close() error { return nil }

// Removals tells when directories are removed; there is none on this system.
type Removals struct{}

// Removal is a directory whose removal is to be told.
type Removal struct{}

// NewRemovals returns ErrNotSupported.
func NewRemovals() (*Removals, error) { return nil, errOther }

// FD is -1.
func (*Removals) FD() int { return -1 }

// Add returns ErrNotSupported.
func (*Removals) Add(int, string, func()) (*Removal, error) { return nil, errOther }

// Remove does nothing.
func (*Removals) Remove(*Removal) {}

// Read does nothing.
func (*Removals) Read() {}

// Close is nil.
func (*Removals) Close() error { return nil }

// Writes tells of writes to files; there is none on this system.
type Writes struct{}

// Write is a directory of which writes are to be told.
type Write struct{}

// NewWrites returns ErrNotSupported.
func NewWrites() (*Writes, error) { return nil, errOther }

// FD is -1.
func (*Writes) FD() int { return -1 }

// Add returns ErrNotSupported.
func (*Writes) Add(int, func(string)) (*Write, error) { return nil, errOther }

// Remove does nothing.
func (*Writes) Remove(*Write) {}

// Read does nothing.
func (*Writes) Read() {}

// Close is nil.
func (*Writes) Close() error { return nil }
