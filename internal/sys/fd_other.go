// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import "github.com/caisson-run/caisson/internal/feature"

func closeFD(int) error { return &feature.UnsupportedError{Feature: "close", Reason: "only Linux"} }

// Dup is not supported here.
func (*FD) Dup() (*FD, error) { return nil, errPidfd }
