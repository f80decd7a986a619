// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Reading is a number that the kernel gave, or none: its zero value says that
// this kernel or this mode has no such figure, which is not the same as 0.
type Reading[T uint64 | time.Duration | bool] struct {
	v  T
	ok bool
}

// ReadingOf is the figure v, as if the kernel had given it.
func ReadingOf[T uint64 | time.Duration | bool](v T) Reading[T] { return Reading[T]{v, true} }

// IsZero reports whether there is no figure.
func (r Reading[T]) IsZero() bool { return !r.ok }

// Value is the figure, if there is one.
func (r Reading[T]) Value() (v T, ok bool) { return r.v, r.ok }

// String is the figure, or nothing if there is none.
func (r Reading[T]) String() string {
	if !r.ok {
		return ""
	}
	return fmt.Sprint(r.v)
}

// MarshalJSON writes the bare figure, times as nanoseconds, and null if there is
// none.
func (r Reading[T]) MarshalJSON() ([]byte, error) {
	if !r.ok {
		return []byte("null"), nil
	}
	return json.Marshal(r.v)
}

// UnmarshalJSON reads what [Reading.MarshalJSON] writes.
func (r *Reading[T]) UnmarshalJSON(b []byte) error {
	*r = Reading[T]{}
	if string(b) == "null" {
		return nil
	}
	if err := json.Unmarshal(b, &r.v); err != nil {
		*r = Reading[T]{}
		return fmt.Errorf("reading: %w", err)
	}
	r.ok = true
	return nil
}
