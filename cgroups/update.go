// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Plan says what [Cgroup.Update] would do now for r, and does none of it. What
// it compares with is read from the kernel.
//
// It returns the errors with which an update would refuse r before touching
// anything: [InvalidError], [UnsupportedError], [InUseError], joined.
func (c *Cgroup) Plan(r Resources) (Plan, error) {
	if err := r.Validate(); err != nil {
		return Plan{}, err
	}
	t := &groupTree{c: c}
	defer t.close()
	changes, err := plan(t, uint64(os.Getpagesize()), r)
	if err != nil {
		return Plan{}, fmt.Errorf("plan for cgroup %s: %w", c.path, err)
	}
	p := Plan{Changes: changes, wanted: r.Clone()}
	for _, ch := range changes {
		if t.in(ch.Controller) == nil {
			p.Enable |= ControllersOf(ch.Controller)
		}
	}
	return p, nil
}

// Result is what an update did.
type Result struct {
	// Changes are the writes, each with what the kernel holds Now. None if
	// everything was as wanted.
	Changes []Change `json:"changes"`
}

// Update gives the group the knobs that r names and leaves the others: all of
// them, or none and an error that says why. It reads what holds, writes what
// differs, each where [Plan] says, and reads it back. An update that changes
// nothing writes nothing.
//
// A controller that the group is not under yet is enabled first; that is not
// taken back. A limit is never set below what is in use if that would kill. What
// the kernel rounds to pages is written rounded, which Change.Why says;
// anything else that it makes of a value is an error.
//
// Errors from before anything is touched are those of [Cgroup.Plan]; later ones
// are an [UpdateError]. ctx is heeded between writes. A memory limit that falls
// may block while the kernel reclaims.
func (c *Cgroup) Update(ctx context.Context, r Resources) (Result, error) {
	if err := r.Validate(); err != nil {
		return Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &groupTree{c: c, update: true}
	defer t.close()
	changes, err := plan(t, uint64(os.Getpagesize()), r)
	if err != nil {
		return Result{}, fmt.Errorf("plan for cgroup %s: %w", c.path, err)
	}
	var enabled bool
	for _, ch := range changes {
		if t.in(ch.Controller) == nil {
			if _, err := c.ensure(ctx, ch.Controller); err != nil {
				return Result{}, err
			}
			enabled = true
		}
	}
	if enabled {
		// What was taken for granted of a new group can now be read.
		if changes, err = plan(t, uint64(os.Getpagesize()), r); err != nil {
			return Result{}, fmt.Errorf("plan for cgroup %s: %w", c.path, err)
		}
	}
	changes, err = apply(ctx, t, changes)
	if err != nil {
		err = fmt.Errorf("update of cgroup %s: %w", c.path, err)
	}
	return Result{Changes: changes}, err
}

// UpdateError says how far an update came. After it everything is as before,
// unless Undo is set.
type UpdateError struct {
	Failed  Change   // the write that failed, or whose value the kernel made something else of
	Applied []Change // the writes before it, in order
	Undone  []Change // those taken back, in the order in which they were
	Pending []Change // the writes that were not tried
	Err     error    // why
	Undo    error    // why not everything could be taken back; nil if it could
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
	return fmt.Sprintf("%s: wrote %q, the kernel holds %q", e.Path, e.Wrote, e.Holds)
}

// apply writes the changes and returns them with what holds now. On failure it
// undoes what it did, in reverse, and returns an [UpdateError].
func apply(ctx context.Context, t tree, changes []Change) ([]Change, error) {
	fail := func(done, failed int, err error) ([]Change, error) {
		e := &UpdateError{Failed: changes[failed], Err: explain(t, changes[failed], err)}
		e.Applied = slices.Clone(changes[:done])
		if done < failed+1 {
			e.Pending = slices.Clone(changes[failed+1:])
		}
		if errors.Is(err, ErrGone) {
			return nil, e // and all that was written with it
		}
		// A write that fails may still have done something, so it is undone too.
		if done == failed && !errors.Is(err, errNotTried) {
			_ = undo(t, changes[failed])
		}
		var errs []error
		for _, c := range slices.Backward(changes[:done]) {
			if err := undo(t, c); err != nil {
				errs = append(errs, err)
				continue
			}
			e.Undone = append(e.Undone, c)
		}
		e.Undo = errors.Join(errs...)
		return nil, e
	}
	for i, c := range changes {
		if err := ctx.Err(); err != nil {
			return fail(i, i, &notTried{err})
		}
		if err := do(t, c.do); err != nil {
			return fail(i, i, err)
		}
	}
	changes = slices.Clone(changes)
	for i := len(changes) - 1; i >= 0; i-- {
		c := &changes[i]
		text, err := t.read(c.Controller, c.check)
		if err != nil {
			return fail(len(changes), i, err)
		}
		c.Now = strings.TrimSpace(c.canon(text))
		if c.canon(text) != c.want && !c.passing {
			return fail(len(changes), i, &CoercedError{Path: c.Path, Wrote: strings.TrimSpace(c.New), Holds: c.Now})
		}
		if c.keeps == "" {
			continue
		}
		if text, err := t.read(c.Controller, c.keeps); err != nil || text != c.kept {
			return fail(len(changes), i, errors.Join(err, &CoercedError{Path: t.path(c.Controller, c.keeps), Wrote: c.kept, Holds: text}))
		}
	}
	return changes, nil
}

// notTried marks an error that came before the write.
type notTried struct{ error }

var errNotTried = errors.New("not tried")

func (e *notTried) Is(target error) bool { return target == errNotTried }
func (e *notTried) Unwrap() error        { return e.error }

// do does one write unless its guard forbids it.
func do(t tree, w write) error {
	if w.guard.file != "" {
		text, err := t.read(w.ctl, w.guard.file)
		if err != nil {
			return &notTried{err}
		}
		usage, err := parseAmount(text)
		if err != nil {
			return &notTried{err}
		}
		if usage > w.guard.limit {
			return &notTried{&InUseError{Knob: w.file, Limit: w.guard.limit, Usage: usage}}
		}
	}
	return t.write(w.ctl, w.file, w.data)
}

// undo does every write that takes c back.
func undo(t tree, c Change) error {
	var errs []error
	for _, w := range c.undo {
		errs = append(errs, do(t, w))
	}
	return errors.Join(errs...)
}

// explain says more about a refusal than its errno.
func explain(t tree, c Change, err error) error {
	var left *notTried
	if errors.As(err, &left) {
		return left.error
	}
	is := func(errno syscall.Errno) bool { return errors.Is(err, errno) }
	hint := ""
	switch {
	case is(syscall.EBUSY) && c.File == limitV1:
		return inUse(t, c, usageV1, err)
	case is(syscall.EBUSY) && c.File == memswV1:
		return inUse(t, c, "memory.memsw.usage_in_bytes", err)
	case is(syscall.EBUSY) && c.Controller == ControllerHugeTLB:
		return inUse(t, c, strings.NewReplacer(".max", ".current", ".limit_in_bytes", ".usage_in_bytes").Replace(c.File), err)
	case is(syscall.EINVAL) && (c.File == quotaV1 || c.File == periodV1):
		hint = "on cgroup v1 the share of CPU may not be above the parent's nor below a child's"
	case is(syscall.EACCES) && c.Controller == ControllerCPUSet:
		hint = "not a subset of the parent's"
	case is(syscall.EBUSY) && c.Controller == ControllerCPUSet:
		hint = "a child group has more"
	case (is(syscall.ERANGE) || is(syscall.EINVAL)) && (c.Knob == "cpuset.cpus" || c.Knob == "cpuset.mems"):
		hint = "the machine may not have them"
	case is(syscall.ENOSPC) && c.Controller == ControllerCPUSet:
		hint = "processes in the group would have none"
	case is(syscall.ENODEV) && (c.Controller == ControllerIO || c.Controller == ControllerRDMA) && !errors.Is(err, ErrGone):
		hint = "there is no such device"
	case is(syscall.EOPNOTSUPP) && c.Knob == "io.weight":
		return &UnsupportedError{Feature: c.Knob, Reason: "io.cost is not enabled on the device, and it does not use the bfq scheduler", Err: err}
	case is(syscall.EPERM) && c.Controller == ControllerDevices:
		hint = "the parent group does not allow it"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}

func inUse(t tree, c Change, file string, err error) error {
	limit, _ := parseAmount(c.New)
	text, e := t.read(c.Controller, file)
	if e != nil {
		return err
	}
	usage, e := parseAmount(text)
	if e != nil {
		return err
	}
	return &InUseError{Knob: c.Knob, Limit: limit, Usage: usage, Err: err}
}
