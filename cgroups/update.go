// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
)

// Plan says what [Cgroup.Update] would do now for r, and does none of it. What
// it compares with is read from the kernel.
//
// It returns the errors with which an update would refuse r before touching
// anything: [InvalidError], [UnsupportedError], [InUseError], joined.
func (c *Cgroup) Plan(r Resources) (Plan, error) {
	t, err := c.begin(r)
	if err != nil {
		return Plan{}, err
	}
	defer t.end()
	return t.plan()
}

// Result is what an update did.
type Result struct {
	// Changes are the writes, each with what the kernel holds Now. None if
	// everything was as wanted.
	Changes []Change `json:"changes"`
}

// String is the writes in words, one a line, as [Plan.String] has them.
func (r Result) String() string { return Plan{Changes: r.Changes}.String() }

// Update gives the group the knobs that r names and leaves the others: all of
// them, or none and an error that says why. It reads what holds, writes what
// differs, each where [Cgroup.Plan] says, and reads it back. An update that
// changes nothing writes nothing. For a group together with those below it there
// is [Root.UpdateAll].
//
// A controller that the group is not under yet is enabled first; that is not
// taken back. What the kernel rounds to pages is written rounded, which
// Change.Why says; anything else that it makes of a value is an error. A frozen
// group stays frozen.
//
// A memory limit that is to fall below what is in use falls in steps and kills
// nobody, see [Gradual], or fails with a [ShrinkError]. That takes time; a
// deadline of ctx ends it.
//
// Errors from before anything is touched are those of [Cgroup.Plan]; later ones
// are an [UpdateError]. ctx is heeded between writes, and in those in which the
// kernel reclaims memory: see [BlockedError] for when it does not come back.
// Another update of the same group is waited for as long as ctx lives; nothing
// else waits for an update.
func (c *Cgroup) Update(ctx context.Context, r Resources) (Result, error) {
	return c.UpdateWith(ctx, r, UpdateConfig{})
}

// UpdateWith is [Cgroup.Update] with a say in how memory limits fall.
func (c *Cgroup) UpdateWith(ctx context.Context, r Resources, cfg UpdateConfig) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	t, err := c.begin(r)
	if err != nil {
		return Result{}, err
	}
	defer t.end()
	t.cfg = cfg
	return t.update(ctx)
}

// apply writes the changes, reads them back and fills in what holds now. On
// failure it undoes what it did, in reverse, and returns an [UpdateError].
func apply(ctx context.Context, changes []Change) error {
	if err := writeAll(ctx, changes); err != nil {
		return err
	}
	for i := len(changes) - 1; i >= 0; i-- {
		if err := changes[i].readBack(); err != nil {
			return failed(changes, i, len(changes), err)
		}
	}
	return nil
}

// writeAll writes the changes, or undoes what it did.
func writeAll(ctx context.Context, changes []Change) error {
	for i := range changes {
		c := &changes[i]
		err := ctx.Err()
		switch {
		case err != nil:
			err = &notTried{err}
		case c.lowering != nil:
			err = c.lowerInSteps(ctx)
		case c.slow:
			err = c.in.writeSlow(ctx, c.Controller, c.File, c.New, 0)
		default:
			err = do(c.in, c.Controller, write{file: c.File, data: c.New, guard: c.guard})
		}
		if err != nil {
			return failed(changes, i, i, err)
		}
	}
	return nil
}

// readBack asks the kernel what it made of the change.
func (c *Change) readBack() error {
	text, err := c.in.read(c.Controller, c.checked())
	if err != nil {
		return err
	}
	c.Now = c.part(text)
	if c.Now != c.want && !c.passing {
		return &CoercedError{Path: c.Path, Wrote: c.New, Holds: c.Now}
	}
	if !c.keeps {
		return nil
	}
	if text, err = c.in.read(c.Controller, c.other); err == nil && text != c.otherWas {
		err = &CoercedError{Path: c.in.path(c.Controller, c.other), Wrote: c.otherWas, Holds: text}
	}
	return err
}

// notTried marks an error that came before the write.
type notTried struct{ error }

var errNotTried = errors.New("not tried")

func (e *notTried) Is(target error) bool { return target == errNotTried }
func (e *notTried) Unwrap() error        { return e.error }

// do does one write unless its guard forbids it.
func do(t tree, ctl Controller, w write) error {
	if w.guard.file != "" {
		text, err := t.read(ctl, w.guard.file)
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
	return t.write(ctl, w.file, w.data)
}
