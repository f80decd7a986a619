// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// DriftPolicy says what a host does when somebody else has changed a limit of a
// sandbox: a daemon that reloads its units, another agent, a person. Whatever it
// is, [Sandbox.Check] tells of it, and a [Drift] event if somebody watches.
type DriftPolicy uint8

// The drift policies. The last two act on sandboxes that are watched; nothing
// looks at the others.
const (
	// DriftReport changes nothing.
	DriftReport DriftPolicy = iota

	// DriftReapply sets what was acknowledged last again: at once at first,
	// then more and more seldom. Against somebody who goes on, or a kernel
	// that refuses, it gives up after a few times, for ten minutes or until
	// the limits are updated.
	DriftReapply

	// DriftAccept acknowledges what was found, as if [Sandbox.Update] had
	// asked for it.
	DriftAccept
)

// String is "report", "reapply" or "accept".
func (p DriftPolicy) String() string {
	switch p {
	case DriftReport:
		return "report"
	case DriftReapply:
		return "reapply"
	case DriftAccept:
		return "accept"
	}
	return "policy(" + strconv.Itoa(int(p)) + ")"
}

// Drift is the event that a limit is not what was set, or is again.
type Drift = elastic.Drift

// errBusy says that limits are being changed by ourselves just now.
var errBusy = errors.New("an update is under way")

// watching is who watches a sandbox, and the warden as long as somebody does.
type watching struct {
	mu      sync.Mutex
	watches []*elastic.Watch
	warden  *warden
}

// watchDrift has w told of drift until end is called.
func (s *Sandbox) watchDrift(w *elastic.Watch) (end func()) {
	g := s.c.Cgroup()
	if _, ok := s.driver.(Updater); !ok || g == nil {
		return func() {}
	}
	a := &s.watching
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watches = append(a.watches, w)
	if a.warden == nil {
		a.warden = &warden{
			clock: s.host.clock, policy: s.host.cfg.Drift,
			look: s.lookInTurn, repair: s.reapply, accept: s.acceptDrift, emit: a.emit,
			listen: func(poke func()) func() {
				named, _, _ := s.c.record.resources()
				cancel, err := s.host.native.engine.OnWrite(g, named.Controllers(), poke)
				if err != nil {
					return nil // what writes would tell at once is found a minute later
				}
				return cancel
			},
		}
		a.warden.begin()
	}
	return func() { a.leave(w) }
}

func (a *watching) leave(w *elastic.Watch) {
	a.mu.Lock()
	a.watches = slices.DeleteFunc(a.watches, func(other *elastic.Watch) bool { return other == w })
	last := a.warden
	if len(a.watches) > 0 {
		last = nil
	} else {
		a.warden = nil
	}
	a.mu.Unlock()
	if last != nil {
		last.end()
	}
}

func (a *watching) emit(e elastic.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.watches {
		w.Post(e)
	}
}

// lookInTurn is lookForDrift while no other process changes the sandbox. One that
// died in the middle of an update has left word of it.
func (s *Sandbox) lookInTurn(ctx context.Context) ([]cgroups.Drift, uint64, error) {
	if s.host.cfg.Shared {
		unlock, err := s.host.lock.operation(ctx)
		if err != nil {
			return nil, 0, err
		}
		defer unlock()
	}
	return s.lookForDrift(s.host.cfg.Shared)
}

// lookForDrift compares what was acknowledged with the kernel. It fails with
// errBusy if that changes meanwhile; alone says that it cannot.
func (s *Sandbox) lookForDrift(alone bool) ([]cgroups.Drift, uint64, error) {
	wanted, version, err := s.acknowledged()
	if err != nil && !(alone && errors.Is(err, errBusy)) {
		return nil, 0, err
	}
	found, err := s.c.Cgroup().Drift(wanted)
	if err != nil {
		return nil, 0, err
	}
	if len(found) > 0 && !alone {
		if _, now, err := s.acknowledged(); err != nil || now != version {
			return nil, 0, errors.Join(err, errBusy)
		}
	}
	return found, version, nil
}

// acknowledged are the resources that should hold, with a number that changes
// when they do.
func (s *Sandbox) acknowledged() (cgroups.Resources, uint64, error) {
	rec := s.c.record
	if s.host.cfg.Shared {
		now, err := loadRecord(s.host.dir, s.id)
		if err != nil {
			return cgroups.Resources{}, 0, err
		}
		defer now.close()
		rec = now
	}
	r, version, pending := rec.resources()
	if b := boxOf(s.c); b != nil && b.state() == StateCreated {
		r, _ = heldBack(r)
	}
	if pending {
		return r, version, errBusy
	}
	return r, version, nil
}

// reapply sets what has drifted to what was acknowledged.
func (s *Sandbox) reapply(ctx context.Context) error {
	return s.change(ctx, "reapply", func() error {
		wanted, drifted, err := s.drifted()
		if err != nil || len(drifted) == 0 {
			return err
		}
		_, err = s.driver.(Updater).Update(ctx, s.c, wanted.Pick(drifted...), s.host.cfg.Update)
		return err
	})
}

// acceptDrift acknowledges what has drifted. A knob whose value cannot be read
// is not acknowledged any more.
func (s *Sandbox) acceptDrift(ctx context.Context) error {
	return s.change(ctx, "accept drift", func() error {
		_, drifted, err := s.drifted()
		if err != nil || len(drifted) == 0 {
			return err
		}
		now, err := s.c.Cgroup().Resources()
		if err != nil {
			return err
		}
		l := s.layers()
		if err := l.conflict(drifted, math.MinInt); err != nil {
			return err
		}
		l.Base = l.Base.Without(drifted...).Merge(now.Pick(drifted...))
		after, kept := l.resources(), l.pruned()
		if err := s.c.record.add(entry{Updated: &after, Layers: &kept}); err != nil {
			return err
		}
		s.c.Spec.Resources = after
		return nil
	})
}

// drifted is what should hold, and the names of the knobs that do not.
func (s *Sandbox) drifted() (wanted cgroups.Resources, names []string, err error) {
	wanted, _, err = s.acknowledged()
	if err != nil && !errors.Is(err, errBusy) { // it is our turn
		return wanted, nil, err
	}
	found, err := s.c.Cgroup().Drift(wanted)
	for _, d := range found {
		if !slices.Contains(names, d.Knob) {
			names = append(names, d.Knob)
		}
	}
	return wanted, names, err
}

// driftNow is for Check: what has drifted, and since when as far as a watch has
// seen it.
func (s *Sandbox) driftNow() []Drift {
	if _, ok := s.driver.(Updater); !ok || s.c.Cgroup() == nil {
		return nil
	}
	s.watching.mu.Lock()
	var known []Drift
	if w := s.watching.warden; w != nil {
		known = w.all()
	}
	s.watching.mu.Unlock()
	found, _, err := s.lookForDrift(false)
	if err != nil {
		return known
	}
	now := s.host.clock.now()
	var all []Drift
	for _, f := range found {
		d := Drift{Time: now, Since: now, Drift: f}
		for _, k := range known {
			if k.Knob == f.Knob && k.Path == f.Path {
				d.Since = k.Since
			}
		}
		all = append(all, d)
	}
	return all
}
