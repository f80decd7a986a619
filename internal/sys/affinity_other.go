// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import "github.com/caisson-run/caisson/internal/feature"

var errAffinity error = &feature.UnsupportedError{Feature: "sched_setaffinity", Reason: "only Linux has it"}

// CPUMask is a set of CPUs; there is none on this system.
type CPUMask struct{}

// Set does nothing.
func (*CPUMask) Set(int) {}

// Within is true.
func (*CPUMask) Within(*CPUMask) bool { return true }

// Affinity returns ErrNotSupported.
func Affinity(int) (CPUMask, error) { return CPUMask{}, errAffinity }

// ReleaseBefore returns ErrNotSupported.
func ReleaseBefore(int, int) (bool, error) { return false, errAffinity }
