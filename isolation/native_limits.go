// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// whole is the error of a call on a sandbox that is still being made.
func whole(c *Container) error {
	if boxOf(c) == nil {
		return &StateError{State: StateCreating, Reason: "it is not whole yet"}
	}
	return nil
}

// Plan is what Update would write to the group.
func (d *nativeDriver) Plan(c *Container, r cgroups.Resources) (cgroups.Plan, error) {
	if err := whole(c); err != nil {
		return cgroups.Plan{}, err
	}
	return c.Cgroup().Plan(r)
}

// Update changes the group and then what other isolators make of r; if one of
// them fails, all return to what held before.
func (d *nativeDriver) Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	now, err := d.due(c, r)
	if err != nil {
		return cgroups.Result{}, err
	}
	result, err := c.Cgroup().UpdateWith(ctx, now, cfg)
	if err != nil {
		return result, err
	}
	if err := d.heed(ctx, c, r); err != nil {
		return cgroups.Result{}, errors.Join(err, result.Revert())
	}
	return result, nil
}

// due is what of r the group gets now.
func (d *nativeDriver) due(c *Container, r cgroups.Resources) (cgroups.Resources, error) {
	if err := whole(c); err != nil {
		return cgroups.Resources{}, err
	}
	if boxOf(c).state() == StateCreated {
		r, _ = heldBack(r) // Start sets the rest
	}
	return r, nil
}

// heed does what other isolators make of r, all of them or none.
func (d *nativeDriver) heed(ctx context.Context, c *Container, r cgroups.Resources) error {
	before := c.Spec.Resources
	for i, iso := range d.isolators {
		ui, ok := iso.(UpdateIsolator)
		if !ok {
			continue
		}
		if err := ui.Update(ctx, c, r); err != nil {
			errs := []error{fmt.Errorf("%s: %w", iso.Name(), err)}
			for _, iso := range slices.Backward(d.isolators[:i]) {
				if ui, ok := iso.(UpdateIsolator); ok {
					errs = append(errs, ui.Update(context.WithoutCancel(ctx), c, before))
				}
			}
			return errors.Join(errs...)
		}
	}
	return nil
}

// Stat measures the group.
func (d *nativeDriver) Stat(c *Container, s *cgroups.Stats) error {
	if err := whole(c); err != nil {
		return err
	}
	return c.Cgroup().Stat(s)
}

// Watch merges the group's events with the end of the first process.
func (d *nativeDriver) Watch(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error] {
	if err := whole(c); err != nil {
		return failed(err)
	}
	b := boxOf(c)
	return c.GroupEvents(ctx, d.engine, pressure, b.ended, b.exitEvent)
}

// exitEvent is the last event, once ended is closed.
func (b *box) exitEvent() Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Exited{Time: b.saved.Exit.At, Status: *b.saved.Exit}
}

// watchGroup gives the group's events until ended is closed, and then the last
// one.
func watchGroup(ctx context.Context, engine *elastic.Engine, c *Container, g *cgroups.Cgroup, pressure []elastic.Threshold,
	ended <-chan struct{}, last func() (Event, error), yield func(Event, error) bool,
) {
	has := g.Controllers()
	w, err := engine.Watch(elastic.WatchConfig{
		Cgroup: g, Pressure: pressure,
		Memory: has.Has(cgroups.ControllerMemory), PIDs: has.Has(cgroups.ControllerPIDs),
	})
	switch {
	case errors.Is(err, os.ErrClosed) && c.Cgroup() == g: // destroyed meanwhile, or the host was closed
		return
	case errors.Is(err, cgroups.ErrGone), errors.Is(err, os.ErrClosed), errors.Is(err, fs.ErrNotExist) && isGone(g):
		yield(Gone{Time: time.Now()}, nil)
		return
	}
	if err != nil {
		yield(nil, err)
		return
	}
	defer w.Close()
	if c.watched != nil {
		defer c.watched(w)()
	}
	// The end of the process ends the wait for the group's events.
	next, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-ended:
			stop(errEnded)
		case <-next.Done():
		}
	}()
	for {
		ev, err := w.Next(next)
		switch {
		case err == nil:
			if !yield(ev, nil) {
				return
			}
		case ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed):
			return
		case errors.Is(context.Cause(next), errEnded):
			// What was noticed before the process ended goes first.
			for ev := range w.Pending() {
				if !yield(ev, nil) {
					return
				}
			}
			yield(last())
			return
		default:
			yield(nil, err)
			return
		}
	}
}

// isGone reports whether a file is missing because its group is.
func isGone(g *cgroups.Cgroup) bool {
	_, err := g.Procs(nil)
	return errors.Is(err, cgroups.ErrGone) || errors.Is(err, os.ErrClosed)
}

var errEnded = errors.New("the process has ended")
