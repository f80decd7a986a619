// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import "github.com/caisson-run/caisson/internal/feature"

var errEventFD error = &feature.UnsupportedError{Feature: "eventfd", Reason: "only Linux has it"}

// NewEventFD returns ErrNotSupported.
func NewEventFD() (*FD, error) { return nil, errEventFD }

// DrainEventFD returns ErrNotSupported.
func DrainEventFD(*FD) (uint64, error) { return 0, errEventFD }

// RingEventFD returns ErrNotSupported.
func RingEventFD(*FD) error { return errEventFD }
