// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/launch"
)

// Errors that callers act on. Each is matched with errors.Is by the typed
// errors of this package.
var (
	// ErrNotSupported: this kernel, machine or driver lacks what was asked for.
	ErrNotSupported = feature.ErrNotSupported
	// ErrInvalid: a value was refused before anything was touched.
	ErrInvalid = feature.ErrInvalid
	// ErrNotFound: there is no sandbox with this id.
	ErrNotFound = errors.New("no such sandbox")
	// ErrExists: there is a sandbox with this id, and its spec is another.
	ErrExists = errors.New("sandbox exists with another spec")
	// ErrState: the sandbox is not in a state in which this can be done.
	ErrState = errors.New("wrong state")
	// ErrLocked: another process has the state directory.
	ErrLocked = errors.New("state directory is in use")
	// ErrClosed: the Host was closed.
	ErrClosed = errors.New("host is closed")
)

// InvalidError is a value refused before anything was touched.
type InvalidError = feature.InvalidError

// UnsupportedError says what is missing and why.
type UnsupportedError = feature.UnsupportedError

// StepError says in which step, between clone and exec, a start ended:
// `mount("proc", "/proc", ...)`, `execve("/srv/web", ...)`.
type StepError = launch.StepError

// Error is a failed operation on one sandbox.
type Error struct {
	Op  string // "create", "start", "update", ...
	ID  string
	Err error
}

// Error reads `start "web-1": ...`, in one line: of several errors that were joined, the
// others follow behind "; ".
func (e *Error) Error() string {
	return fmt.Sprintf("%s %q: %s", e.Op, e.ID, strings.ReplaceAll(e.Err.Error(), "\n", "; "))
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// wrap names the operation and the sandbox; nil stays nil.
func wrap(op, id string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.ID == id {
		return err
	}
	return &Error{Op: op, ID: id, Err: err}
}

// StateError says what a sandbox would have to be for the operation. It
// matches [ErrState].
type StateError struct {
	State  State  // what it is
	Reason string // what to do instead
}

// Error reads "sandbox is running: it was started already".
func (e *StateError) Error() string { return fmt.Sprintf("sandbox is %s: %s", e.State, e.Reason) }

// Is reports whether target is [ErrState].
func (e *StateError) Is(target error) bool { return target == ErrState }
