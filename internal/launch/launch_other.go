// SPDX-License-Identifier: Apache-2.0

//go:build !linux || (!amd64 && !arm64)

package launch

import (
	"context"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/sys"
)

var errOther = &feature.UnsupportedError{Feature: "launch", Reason: "only Linux on amd64 and arm64"}

// Program is a compiled Spec; here there is none.
type Program struct{}

// Child is a started program; here there is none.
type Child struct {
	PID      int
	PIDFD    *sys.FD
	Degraded []error
}

// Compile validates the Spec and returns [ErrNotSupported].
func Compile(s Spec) (*Program, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return nil, errOther
}

// CompileAnnounced is Compile.
func CompileAnnounced(s Spec, _ func(pid, pidfd int) error) (*Program, error) { return Compile(s) }

// Steps returns nothing.
func (*Program) Steps() []Step { return nil }

// String returns nothing.
func (*Program) String() string { return "" }

// Start returns [ErrNotSupported].
func (*Program) Start(context.Context) (*Child, error) { return nil, errOther }

// StartOn returns [ErrNotSupported].
func (*Program) StartOn(context.Context, func(birth func()) error) (*Child, error) {
	return nil, errOther
}

// Wait returns [ErrNotSupported].
func (*Child) Wait() (Status, error) { return Status{}, errOther }

// Reap returns [ErrNotSupported].
func (*Child) Reap() (Status, bool, error) { return Status{}, false, errOther }

// AwaitExit returns false.
func AwaitExit(int, int, time.Duration) bool { return false }

// Landlock is 0: there is none.
func Landlock() int { return 0 }

// Stub is a program that children execute first; here there is none.
type Stub struct{}

// NewStub returns [ErrNotSupported].
func NewStub() (*Stub, error) { return nil, errOther }

// Close does nothing.
func (*Stub) Close() error { return nil }

// Close does nothing.
func (*Program) Close() error { return nil }

// WriteIDMaps returns [ErrNotSupported].
func WriteIDMaps(int, string, string, bool) error { return errOther }

// IDMapper is the name of the program that maps ids of this kind.
func IDMapper(kind string) string { return "new" + kind + "map" }
