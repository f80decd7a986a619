// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

// ErrNotSupported is matched by errors that say the kernel cannot do it.
var ErrNotSupported = feature.ErrNotSupported

// SpecError says which field of a Spec is wrong. Nothing was touched.
type SpecError struct {
	Field string // "Mounts[2].Target"
	Value any
	Err   error
}

// Error reads `launch: Hostname "a\x00": holds a NUL byte`.
func (e *SpecError) Error() string { return fmt.Sprintf("launch: %s %#v: %v", e.Field, e.Value, e.Err) }

// Unwrap gives the reason.
func (e *SpecError) Unwrap() error { return e.Err }

// StepError says in which step a launch ended. The child is gone and reaped,
// unless Stuck.
type StepError struct {
	Index int    // in Program.Steps
	Step  string // what was tried, in words
	PID   int    // of the child that was; 0 if there was none
	Err   error  // a syscall.Errno, a *Killed, or the context's error
	Stuck bool   // killed, yet not dead: it is reaped as soon as it dies
}

// Error reads `launch: step 7, mount("proc", "/proc", "proc", 0xe): permission denied`.
func (e *StepError) Error() string {
	s := fmt.Sprintf("launch: step %d, %s: %v", e.Index, e.Step, e.Err)
	if e.Stuck {
		s += fmt.Sprintf(" (process %d is killed but cannot die yet)", e.PID)
	}
	return s
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Refused is an error of the kernel with the rule that is behind it.
type Refused struct {
	Err    error
	Reason string
}

// Error reads "no space left on device: there are as many namespaces as ...".
func (e *Refused) Error() string { return e.Err.Error() + ": " + e.Reason }

// Unwrap gives the kernel's error.
func (e *Refused) Unwrap() error { return e.Err }

// Killed is the end of a child by a signal.
type Killed struct{ Signal syscall.Signal }

// Error reads "killed by signal 9".
func (e *Killed) Error() string { return fmt.Sprintf("killed by signal %d", int(e.Signal)) }

// Status is how a child ended and what it used. The kernel starts the peak
// memory of a child that shared our memory at our own peak, so it is not here.
type Status struct {
	Code       int            // exit status; -1 if Signal ended it
	Signal     syscall.Signal // 0 if it exited
	CoreDumped bool

	User, System time.Duration // CPU time of it and of the children it waited for
}

// Step is one step of a Program, in words.
type Step struct {
	Text     string // `mount("proc", "/proc", "proc", 0xe)`
	Optional bool
}
