// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"slices"

	"github.com/caisson-run/caisson/cgroups"
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
	if len(open) == 0 || s.c.Cgroup == nil {
		return was, nil
	}
	now, err := s.c.Cgroup.Resources(r.Controllers().List()...)
	if err != nil {
		return was, err
	}
	if now.CPU.Idle == cgroups.On {
		now.CPU.Weight = cgroups.DefaultWeight() // which the kernel gives a group that is idle no more
	}
	was, _ = now.Only(r.Pick(open...))
	return now.Pick(open...).Merge(was), nil
}

// takeBack undoes an update whose process died in the middle of it, so that all
// its limits are the old ones. If one of them is not known, all become the new
// ones. It reports what it did, "" if there was nothing to do. The caller has its
// turn.
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
