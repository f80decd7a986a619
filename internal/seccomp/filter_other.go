// SPDX-License-Identifier: Apache-2.0

//go:build !linux || (!amd64 && !arm64)

package seccomp

// Default is nothing here.
func Default(uint64) []byte { return nil }

// Rules are none here.
func Rules(uint64) []Rule { return nil }
