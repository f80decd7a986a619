// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/kernfs"
)

// ErrNotSupported is matched by every error that says this kernel or this
// layout lacks what was asked for.
var ErrNotSupported = feature.ErrNotSupported

// ErrGone is matched by errors of operations on a group that was removed,
// whoever removed it.
var ErrGone = errors.New("cgroup is gone")

// ErrInvalid is matched by errors about a value that was refused before
// anything was touched.
var ErrInvalid = feature.ErrInvalid

// UnsupportedError says what is missing and why. It matches [ErrNotSupported].
type UnsupportedError = feature.UnsupportedError

// FileError says which operation on which kernel file failed, and with which
// data.
type FileError = kernfs.FileError

// InvalidError is a value refused before anything was touched. It matches
// [ErrInvalid].
type InvalidError = feature.InvalidError

// goneError marks err, a failure on a held directory, as [ErrGone].
type goneError struct{ err error }

func (e *goneError) Error() string        { return ErrGone.Error() + ": " + e.err.Error() }
func (e *goneError) Is(target error) bool { return target == ErrGone }
func (e *goneError) Unwrap() error        { return e.err }
