// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"errors"
	"fmt"
)

// ErrInvalid is matched by errors about a value that was refused before
// anything was touched. The concrete type is [InvalidError].
var ErrInvalid = errors.New("invalid value")

// InvalidError is a value refused before anything was touched. It matches
// [ErrInvalid].
type InvalidError struct {
	Field  string // "memory.max", "path"
	Value  string // as given
	Reason string
}

// Error reads `memory.max "-1": negative`.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Reason) }

// Is reports whether target is [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }
