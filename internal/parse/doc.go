// SPDX-License-Identifier: Apache-2.0

// Package parse scans the text of kernel files as bytes, without allocating, but for Unescape.
//
// It cuts and converts; what a key means is the caller's. Nothing is skipped in
// silence but what the caller does not ask for: a number that is not one, or
// does not fit, is told apart from 0.
package parse
