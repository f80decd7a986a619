// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bpf

import (
	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/sys"
)

// Load returns ErrNotSupported.
func Load(Type, string, []byte) (*sys.FD, error) {
	return nil, &feature.UnsupportedError{Feature: "BPF", Reason: "only Linux has it"}
}
