// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

// LetReopen does nothing here.
func LetReopen(int) {}

// GiveTerminal does nothing here.
func GiveTerminal(int, uint32) {}
