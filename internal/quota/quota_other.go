// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package quota

import "github.com/caisson-run/caisson/internal/feature"

// Limit is of Linux.
func Limit(string, uint64, ...string) error {
	return &feature.UnsupportedError{Feature: "project quota", Reason: "only Linux"}
}
