// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/wire"
)

// Errors that callers act on.
var (
	// ErrNone: no supervisor runs.
	ErrNone = errors.New("no supervisor runs")
	// ErrGone: the supervisor ended while it was being asked. What it had been
	// asked may have been done.
	ErrGone = errors.New("the supervisor has ended")
	// ErrLost: what was to be launched may have run, and may run still, and the
	// supervisor does not tell.
	ErrLost = errors.New("the process may have run")
	// ErrUnknown: it has no such process.
	ErrUnknown = errors.New("not known to the supervisor")
)

// Refusal is a launch that was refused before anything was done.
type Refusal struct{ Err error }

// Error is that of the reason.
func (e *Refusal) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *Refusal) Unwrap() error { return e.Err }

// failure is an error on its way: its types as far as callers know them, and the
// innermost cause in words.
type failure struct {
	Text    string
	Errno   syscall.Errno
	Signal  int // of a launch.Killed
	Refused bool
	Unknown bool
	Step    *failedStep
	Path    *failedPath
	Lacks   *failedFeature
}

// What there is of a launch.StepError, an fs.PathError and an UnsupportedError,
// besides their causes.
type (
	failedStep struct {
		Index int
		Step  string
		PID   int
		Stuck bool
	}
	failedPath    struct{ Op, Path string }
	failedFeature struct{ Feature, Since, Reason string }
)

func walkFailure(c *wire.Codec, f *failure) {
	wire.Text(c, &f.Text)
	wire.Number(c, &f.Errno)
	wire.Number(c, &f.Signal)
	wire.Truth(c, &f.Refused)
	wire.Truth(c, &f.Unknown)
	wire.Maybe(c, &f.Step, func(c *wire.Codec, s *failedStep) {
		wire.Number(c, &s.Index)
		wire.Text(c, &s.Step)
		wire.Number(c, &s.PID)
		wire.Truth(c, &s.Stuck)
	})
	wire.Maybe(c, &f.Path, func(c *wire.Codec, p *failedPath) {
		wire.Text(c, &p.Op)
		wire.Text(c, &p.Path)
	})
	wire.Maybe(c, &f.Lacks, func(c *wire.Codec, u *failedFeature) {
		wire.Text(c, &u.Feature)
		wire.Text(c, &u.Since)
		wire.Text(c, &u.Reason)
	})
}

// failed is err as it travels.
func failed(err error) *failure {
	f := &failure{}
	var (
		step    *launch.StepError
		path    *fs.PathError
		lacks   *feature.UnsupportedError
		refusal *Refusal
		killed  *launch.Killed
	)
	if errors.As(err, &refusal) {
		f.Refused, err = true, refusal.Err
	}
	if errors.As(err, &step) {
		f.Step, err = &failedStep{step.Index, step.Step, step.PID, step.Stuck}, step.Err
	}
	if errors.As(err, &path) {
		f.Path, err = &failedPath{path.Op, path.Path}, path.Err
	}
	if errors.As(err, &lacks) {
		f.Lacks, err = &failedFeature{lacks.Feature, lacks.Since, lacks.Reason}, lacks.Err
	}
	if errors.As(err, &killed) {
		f.Signal = int(killed.Signal)
	}
	errors.As(err, &f.Errno)
	f.Unknown = errors.Is(err, ErrUnknown)
	if err != nil {
		f.Text = err.Error()
	}
	return f
}

// told is an error of another process.
type told struct {
	text string
	err  error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.err }

// error is the failure as an error again.
func (f *failure) error() error {
	var err error
	switch {
	case f.Signal != 0:
		err = &launch.Killed{Signal: syscall.Signal(f.Signal)}
	case f.Unknown:
		err = ErrUnknown
	case f.Errno != 0 && f.Text == f.Errno.Error():
		err = f.Errno
	case f.Errno != 0:
		err = &told{f.Text, f.Errno}
	case f.Text != "":
		err = errors.New(f.Text)
	}
	if f.Lacks != nil {
		err = &feature.UnsupportedError{Feature: f.Lacks.Feature, Since: f.Lacks.Since, Reason: f.Lacks.Reason, Err: err}
	}
	if f.Path != nil {
		err = &fs.PathError{Op: f.Path.Op, Path: f.Path.Path, Err: err}
	}
	if f.Step != nil {
		err = &launch.StepError{Index: f.Step.Index, Step: f.Step.Step, PID: f.Step.PID, Stuck: f.Step.Stuck, Err: err}
	}
	if f.Refused {
		err = &Refusal{err}
	}
	return err
}

// silent says who did not answer in time.
func silent(dir string, ctx context.Context) error {
	return fmt.Errorf("the supervisor at %s does not answer; if it is stopped, let it go on, or end it: its processes live on: %w",
		dir, context.Cause(ctx))
}
