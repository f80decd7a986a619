// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// UpdateError says how far an update came, and what holds after it: everything
// is as before unless Left says otherwise. Of a group that was removed meanwhile
// nothing holds; its changes are neither in Undone nor in Left. If that is why
// the update failed, the error matches [ErrGone] and Failed tells which group.
type UpdateError struct {
	Failed  Change   // the write that failed, or whose value the kernel made something else of
	Applied []Change // the writes before it, in order; all of them if it was a value that failed
	Undone  []Change // those taken back, in the order in which they were
	Left    []Change // what could not be taken back, each with what the kernel holds Now
	Pending []Change // the writes that were not tried
	Err     error    // why
	Undo    error    // why there is something in Left; nil if there is not
}

// Error reads `write "x" to /sys/...: invalid argument; 2 writes undone`.
func (e *UpdateError) Error() string {
	s := e.Err.Error()
	if n := len(e.Undone); n > 0 {
		s += fmt.Sprintf("; %d writes undone", n)
	}
	if e.Undo != nil {
		s += "; not undone: " + e.Undo.Error()
	}
	return s
}

// Unwrap gives the cause and, if there is one, the failure to undo.
func (e *UpdateError) Unwrap() []error {
	if e.Undo == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Undo}
}

// A CoercedError says that the kernel took a value and holds another, in the
// file or, because of it, in another one.
type CoercedError struct {
	Path, Wrote, Holds string
}

// Error reads `/sys/...: wrote "root", the kernel holds "root invalid (...)"`.
func (e *CoercedError) Error() string {
	return fmt.Sprintf("%s: wrote %q, the kernel holds %q", e.Path, strings.TrimSpace(e.Wrote), strings.TrimSpace(e.Holds))
}

// failed takes back what was done of the changes, of which the first applied went
// through and the one at at failed, and says so.
func failed(changes []Change, at, applied int, err error) error {
	e := &UpdateError{
		Failed:  changes[at],
		Applied: slices.Clone(changes[:applied]),
		Pending: slices.Clone(changes[max(applied, at+1):]),
		Err:     refusal(&changes[at], err),
	}
	tried := applied
	if applied == at && !errors.Is(err, errNotTried) {
		tried++ // a write that fails may still have done something
	}
	e.Undone, e.Left, e.Undo = undo(changes[:tried], applied)
	return e
}

// undo takes the changes back, last one first, and then looks whether all is as
// before: a write that fails may have done its work, and one that succeeds may
// not. It goes on past a failure. Of the first applied changes it says which
// were taken back.
func undo(changes []Change, applied int) (undone, left []Change, err error) {
	errs := make([]error, len(changes))
	for i := range slices.Backward(changes) {
		errs[i] = changes[i].takeBack()
	}
	back := make([]bool, len(changes))
	var why []error
	for i := range changes {
		c := &changes[i]
		if first := slices.IndexFunc(changes, func(o Change) bool { return c.same(&o) }); first < i {
			back[i] = back[first]
			continue
		}
		wrong, gone := c.unlike(errs[i])
		back[i] = wrong == nil && !gone
		for _, w := range wrong {
			left, why = append(left, w.Change), append(why, w.err)
		}
	}
	for i := range slices.Backward(changes[:applied]) {
		if back[i] {
			undone = append(undone, changes[i])
		}
	}
	return undone, left, errors.Join(why...)
}

// takeBack does every write that takes c back.
func (c *Change) takeBack() error {
	if c.undo == nil {
		return do(c.in, c.Controller, write{file: c.File, data: c.Old})
	}
	var errs []error
	for _, w := range c.undo {
		err := do(c.in, c.Controller, w)
		if w.instead != "" && errors.Is(err, syscall.ENOSPC) {
			w.data = w.instead
			_ = do(c.in, c.Controller, w) // which is not what was there; that is an error still
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leftover is a change that could not be taken back, and why.
type leftover struct {
	Change
	err error
}

// unlike compares what c was about with what it was before. tried is what became
// of taking it back.
func (c *Change) unlike(tried error) (wrong []leftover, gone bool) {
	look := func(l Change, file string, part func(string) string, was string) {
		text, err := c.in.read(c.Controller, file)
		if errors.Is(err, ErrGone) {
			gone = true
			return
		}
		if err == nil {
			if l.Now = part(text); l.Now == was {
				return
			}
			err = &CoercedError{Path: l.Path, Wrote: l.Old, Holds: l.Now}
		}
		if tried != nil {
			err = tried
		}
		wrong = append(wrong, leftover{l, err})
	}
	look(*c, c.checked(), c.part, c.before())
	if c.other != "" {
		l := Change{
			Cgroup: c.Cgroup, Controller: c.Controller, Knob: c.other, File: c.other, in: c.in,
			Path: c.in.path(c.Controller, c.other), Old: c.otherWas, Why: "changed with " + c.File,
		}
		look(l, c.other, func(text string) string { return text }, c.otherWas)
	}
	return wrong, gone
}
