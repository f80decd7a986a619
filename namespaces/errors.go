// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"fmt"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/linux"
)

// ErrNotSupported is matched by every error that says this kernel, or a program
// written in Go, cannot do what was asked for.
var ErrNotSupported = feature.ErrNotSupported

// ErrNotNamespace is matched by errors of [OpenPath] about a file that is
// something else.
var ErrNotNamespace = linux.ErrNotNamespace

// ErrInvalid is matched by errors about a value that was refused before
// anything was touched.
var ErrInvalid = feature.ErrInvalid

// UnsupportedError says what is missing and why. It matches [ErrNotSupported].
type UnsupportedError = feature.UnsupportedError

// FileError says which operation on which file failed.
type FileError = kernfs.FileError

// InvalidError is a value refused before anything was touched. It matches
// [ErrInvalid].
type InvalidError = feature.InvalidError

// EnterError says that [Do] did not get into a namespace. The function was not
// called, and nothing has changed.
type EnterError struct {
	ID  ID    // of the namespace that refused
	Err error // the kernel's answer; EPERM without CAP_SYS_ADMIN over the namespace
}

// Error reads "enter net:[4026531840]: setns: operation not permitted".
func (e *EnterError) Error() string { return fmt.Sprintf("enter %s: %v", e.ID, e.Err) }

// Unwrap gives the cause.
func (e *EnterError) Unwrap() error { return e.Err }

// LeaveError says that [Do] called the function but could not bring its thread
// back. The thread has ended and harms nobody; what the function did stays
// done. It happens if the function gave up the thread's capabilities.
type LeaveError struct {
	ID     ID    // the namespace of the process that could not be entered again
	Err    error // the kernel's answer
	Result error // what the function returned
}

// Error reads "return to net:[4026531840]: setns: operation not permitted", and
// then what the function returned, if that is an error.
func (e *LeaveError) Error() string {
	s := fmt.Sprintf("return to %s: %v", e.ID, e.Err)
	if e.Result != nil {
		s += "; the function returned: " + e.Result.Error()
	}
	return s
}

// Unwrap gives both causes.
func (e *LeaveError) Unwrap() []error {
	if e.Result == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Result}
}

// Panic is what [Do] panics with in the caller's goroutine when the function
// panics.
type Panic struct {
	Value any    // the argument of the function's panic
	Stack []byte // the stack of the function at that point
}

// Error shows the value and the stack.
func (p *Panic) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Unwrap gives the value, if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
