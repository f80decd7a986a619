// SPDX-License-Identifier: Apache-2.0

package feature

import "errors"

// ErrNotSupported is matched by every error that says the kernel, its
// configuration or the caller's privileges lack a feature. The concrete type is
// [UnsupportedError], which says which and why.
var ErrNotSupported = errors.New("not supported")

// UnsupportedError says which feature is missing and why. It matches
// [ErrNotSupported].
type UnsupportedError struct {
	Feature string // what was asked for, in the kernel's words: "memory.high"
	Since   string // the release that has it, "Linux 4.5"; empty if no release helps
	Reason  string // why it is absent here: "cgroup v1 has no such file"
	Err     error  // the kernel's own answer, if it was asked; may be nil
}

// Error reads "memory.high: not supported: cgroup v1 has no such file (since Linux 4.5)".
func (e *UnsupportedError) Error() string {
	s := e.Feature + ": not supported"
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Since != "" {
		s += " (since " + e.Since + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is [ErrNotSupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrNotSupported }

// Unwrap gives the kernel's own answer.
func (e *UnsupportedError) Unwrap() error { return e.Err }
