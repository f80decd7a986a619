// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import "github.com/caisson-run/caisson/internal/feature"

// LowFDs is not supported here.
type LowFDs struct{}

// NewLowFDs returns ErrNotSupported.
func NewLowFDs() (*LowFDs, error) {
	return nil, &feature.UnsupportedError{Feature: "low descriptors", Reason: "only Linux"}
}

// Null is -1.
func (*LowFDs) Null() int { return -1 }

// Lend returns ErrNotSupported.
func (*LowFDs) Lend([]int) ([]int, func(), error) {
	_, err := NewLowFDs()
	return nil, nil, err
}

// Close is nil.
func (*LowFDs) Close() error { return nil }
