// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/netns"
)

// interrupted is an update that was begun and not ended: what it was to write,
// what those of its knobs held that nobody had set, and who held which before.
type interrupted struct {
	wanted, was cgroups.Resources
	layers      layers
}

// was is what the knobs that r names hold now, as far as no record says so.
// Knobs whose value the kernel does not tell are left out.
func (s *Sandbox) was(r cgroups.Resources) (was cgroups.Resources, err error) {
	have := s.c.record.claims().Former.Merge(s.c.Spec.Resources)
	var open []string
	known := have.Names()
	for _, name := range knobs(r) {
		// A group that was given a weight was not idle.
		runs := name == "cpu.idle" && r.CPU.Idle == cgroups.Keep && !have.CPU.Weight.IsZero()
		if !runs && !slices.Contains(known, name) {
			open = append(open, name)
		}
	}
	if len(open) == 0 || s.c.Cgroup() == nil {
		return was, nil
	}
	now, err := s.c.Cgroup().Resources(r.Controllers().List()...)
	if err != nil {
		return was, err
	}
	if now.CPU.Idle == cgroups.On {
		now.CPU.Weight = cgroups.DefaultWeight() // which the kernel gives a group that is idle no more
	}
	was, _ = now.Only(r.Pick(open...))
	return now.Pick(open...).Merge(was), nil
}

// reshape is a change of the limits of one interface that was begun.
type reshape struct {
	Interface int             `json:"interface"` // of the spec's
	Bandwidth netns.Bandwidth `json:"bandwidth"` // what was to be set
}

// act is a change of whether the processes run.
type act string

const (
	actFreeze act = "freeze"
	actThaw   act = "thaw"
	actKill   act = "kill"
	actDone   act = "done"
)

// conclude ends what an earlier process has begun and not ended: nothing stays half
// done. It reports what it did, "" if there was nothing to do. The caller has its
// turn.
func (s *Sandbox) conclude(ctx context.Context) (did string, err error) {
	var all []string
	for _, part := range []func(context.Context) (string, error){s.takeBack, s.unshape, s.finishAct} {
		did, perr := part(ctx)
		err = errors.Join(err, perr)
		if did != "" {
			all = append(all, did)
		}
	}
	return strings.Join(all, ", and "), err
}

// takeBack undoes an update whose process died in the middle of it, so that all
// its limits are the old ones. If one of them is not known, all become the new
// ones.
func (s *Sandbox) takeBack(ctx context.Context) (did string, err error) {
	cut := s.c.record.cutOff()
	if cut == nil {
		return "", nil
	}
	d, ok := s.driver.(Updater)
	if !ok {
		return "", nil
	}
	acknowledged := s.c.record.current().Resources
	old := cut.was.Merge(cut.layers.Former).Merge(acknowledged)
	e := entry{Updated: &acknowledged, Layers: &cut.layers}
	write, did := settled(old.Pick(knobs(cut.wanted)...)), "an update that was cut off was taken back"
	for _, name := range cut.wanted.Names() {
		if old.Pick(name).IsZero() {
			base, after, all, err := s.under(cut.wanted)
			if err != nil {
				return "", err
			}
			write, did, e = all, "an update that was cut off was finished", entry{Updated: &after, Layers: base}
			break
		}
	}
	if _, err := d.Update(ctx, s.c, write, cgroups.UpdateConfig{}); err != nil {
		return "", err
	}
	if err := s.c.record.add(e); err != nil {
		return "", err
	}
	s.c.Spec.Resources = *e.Updated
	return did, nil
}

// unshape is takeBack for the limits of a network.
func (s *Sandbox) unshape(ctx context.Context) (did string, err error) {
	cut, _ := s.c.record.begun()
	d, ok := s.networker()
	if cut == nil || !ok {
		return "", nil
	}
	now := s.c.record.current().Network
	all := d.Interfaces(s.c)
	if cut.Interface < 0 || cut.Interface >= min(len(all), len(now.Interfaces)) {
		return "", &StateError{State: StateCreated, Reason: "the network limits that were cut off are of an interface that it has not"}
	}
	before := lower(now.Interfaces[cut.Interface].Bandwidth, s.c.record.narrowed().of(cut.Interface))
	byClass := before.Priority.IsZero()
	if byClass {
		before.Priority = cmp.Or(priorityOf(s.c.Spec.Class), netns.DefaultPriority())
	}
	err = d.UpdateNetwork(ctx, s.c, all[cut.Interface].Name, only(before, cut.Bandwidth))
	if byClass && errors.Is(err, ErrNotSupported) { // then it had none
		before.Priority = netns.DefaultPriority()
		err = d.UpdateNetwork(ctx, s.c, all[cut.Interface].Name, only(before, cut.Bandwidth))
	}
	if err != nil {
		return "", err
	}
	return "network limits that were cut off were taken back", s.c.record.add(entry{Network: &now})
}

// during runs do between two lines of the record, so that what it does is ended
// should this process die meanwhile. A full disk keeps nobody from it.
func (s *Sandbox) during(intent entry, do func() error) error {
	begun := s.c.record.add(intent) == nil
	err := do()
	if begun {
		err = errors.Join(err, s.c.record.add(entry{Act: actDone}))
	}
	return err
}

// finishAct leaves the processes running if they were being frozen or thawed, and
// ends those that were being killed.
func (s *Sandbox) finishAct(ctx context.Context) (did string, err error) {
	_, begun := s.c.record.begun()
	switch begun {
	case "":
		return "", nil
	case actKill:
		did, err = "a kill that was cut off was finished", s.killOn(ctx)
	case actFreeze:
		did = "a freeze that was cut off was taken back"
	case actThaw:
		did = "a thaw that was cut off was finished"
	default:
		return "", &UnsupportedError{Feature: "ending what was cut off", Reason: fmt.Sprintf("this release knows no %q", clip(string(begun)))}
	}
	if d, ok := s.driver.(Freezer); ok && err == nil {
		err = d.Thaw(ctx, s.c)
	}
	if err != nil {
		return "", err
	}
	return did, s.c.record.add(entry{Act: actDone})
}

// killOn finishes a kill, which may have left the group without a right to fork.
func (s *Sandbox) killOn(ctx context.Context) error {
	if s.c.Cgroup() == nil {
		return s.lacks("kill")
	}
	if err := s.c.Cgroup().Kill(ctx); err != nil {
		return err
	}
	d, ok := s.driver.(Updater)
	limit := s.c.record.beforeKill().Merge(s.c.record.current().Resources.Pick("pids.max"))
	if !ok || limit.IsZero() {
		return nil
	}
	_, err := d.Update(ctx, s.c, limit, cgroups.UpdateConfig{})
	return err
}
