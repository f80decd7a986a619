// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strconv"
)

// memory plans the knobs of the memory controller.
func (p *planner) memory(m Memory) error {
	if m == (Memory{}) {
		return nil
	}
	v, err := p.under(ControllerMemory)
	if err != nil {
		return err
	}
	if v == 1 {
		return p.memoryV1(m)
	}
	return errors.Join(p.oomGroup(m.OOMGroup), p.memoryV2(m))
}

func (p *planner) oomGroup(s Switch) error {
	if s == Keep {
		return nil
	}
	want := "0"
	if s == On {
		want = "1"
	}
	return p.simple(ControllerMemory, "memory.oom.group", want, grow, "")
}

// memoryStage is the stage of a limit of memory.
func memoryStage(from, to uint64) stage {
	if to < from {
		return reclaim
	}
	return grow
}

// memoryAmount reads a file that holds bytes.
func (p *planner) memoryAmount(knob, file string) (uint64, error) {
	text, err := p.knob(ControllerMemory, knob, file)
	if err != nil {
		return 0, err
	}
	n, err := parseAmount(text)
	if err != nil {
		return 0, &FileError{Op: "parse", Path: p.path(ControllerMemory, file), Data: text, Err: err}
	}
	return n, nil
}

// ErrInUse is matched by errors that say a limit was not set because more than
// that is in use and cannot be taken away.
var ErrInUse = errors.New("more is in use")

// InUseError says how much stands against a limit. It matches [ErrInUse].
type InUseError struct {
	Knob  string
	Limit uint64 // what was to be set
	Usage uint64 // what is in use, or of it what cannot be reclaimed
	Err   error  // the kernel's own answer; nil if it was not asked
}

// Error reads "memory.max 1048576: more is in use: 2097152".
func (e *InUseError) Error() string {
	s := e.Knob + " " + strconv.FormatUint(e.Limit, 10) + ": " + ErrInUse.Error() + ": " + strconv.FormatUint(e.Usage, 10)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is [ErrInUse].
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// Unwrap gives the kernel's own answer.
func (e *InUseError) Unwrap() error { return e.Err }
