// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/caisson-run/caisson/cgroups"
)

// SandboxResources are the limits that an update of several sandboxes gives to one of
// them.
type SandboxResources struct {
	Sandbox   *Sandbox
	Resources cgroups.Resources
}

// UpdateAll is [Sandbox.Update] of several sandboxes at once, such as one that gives
// what another gets: all of them get what they are to have, or none does. Whatever
// grows does so before anything shrinks; see [cgroups.Root.UpdateAll]. The order of
// all does not matter; each sandbox may be in it once.
//
// It is for sandboxes of the native driver and for adopted ones: others are
// [ErrNotSupported]. After an agent that died in the middle, the next one finds all as
// they were. Only in the last moment, when it is written down of one sandbox after the
// other that it is done, may a death or a full disk leave some with the new limits.
func (h *Host) UpdateAll(ctx context.Context, all []SandboxResources) (cgroups.Result, error) {
	return h.UpdateAllWith(ctx, all, h.cfg.Update)
}

// UpdateAllWith is UpdateAll with a say in how memory limits fall, whatever
// Config.Update says.
func (h *Host) UpdateAllWith(ctx context.Context, all []SandboxResources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	t := &together{root: h.Root(), cfg: cfg}
	err := t.update(ctx, h, slices.Clone(all))
	if err != nil {
		return cgroups.Result{}, fmt.Errorf("update together: %w", err)
	}
	return t.result, nil
}

// jointUpdater is a driver whose sandboxes' groups can be updated at once.
type jointUpdater interface {
	// due is what of r the group is to get now.
	due(c *Container, r cgroups.Resources) (cgroups.Resources, error)

	// heed does what besides the group goes by r; if it fails, nothing of that.
	heed(ctx context.Context, c *Container, r cgroups.Resources) error
}

// together is an update of several sandboxes.
type together struct {
	root   *cgroups.Root
	cfg    cgroups.UpdateConfig
	parts  []part
	result cgroups.Result

	refused bool // by the kernel: the error names the group
}

// part is what one sandbox has of it.
type part struct {
	*Sandbox
	driver jointUpdater
	wanted cgroups.Resources // without what others claim
}

func (t *together) update(ctx context.Context, h *Host, all []SandboxResources) error {
	if err := t.cfg.Validate(); err != nil {
		return err
	}
	seen := make(map[*Sandbox]bool)
	for _, one := range all {
		s := one.Sandbox
		if s == nil || s.host != h || seen[s] {
			id := "nil"
			if s != nil {
				id = s.id
			}
			return &InvalidError{Field: "sandbox", Value: id, Reason: "none, one of another host, or there twice"}
		}
		seen[s] = true
		if err := one.Resources.Validate(); err != nil {
			return wrap("update", s.id, err)
		}
	}
	if err := context.Cause(ctx); err != nil || len(all) == 0 {
		return err
	}
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Two who do this at once would wait for each other in another order.
	slices.SortFunc(all, func(a, b SandboxResources) int { return cmp.Compare(a.Sandbox.id, b.Sandbox.id) })
	return t.next(ctx, all)
}

// next takes the turn of the first of rest, writes down what is intended, and goes on
// with those behind it; so everybody is held, and every intent is on disk, when the
// groups are written.
func (t *together) next(ctx context.Context, rest []SandboxResources) error {
	if len(rest) == 0 {
		return t.write(ctx)
	}
	s, r := rest[0].Sandbox, rest[0].Resources
	err := s.turn(ctx, "update", func() error {
		d, ok := s.driver.(jointUpdater)
		if !ok {
			return s.lacks("an update together with others")
		}
		return s.update(ctx, r, func(ctx context.Context, write cgroups.Resources) ([]cgroups.Change, error) {
			t.parts = append(t.parts, part{s, d, write})
			err := t.next(ctx, rest[1:])
			return t.changesOf(s), err
		})
	})
	if e := (*Error)(nil); t.refused || errors.As(err, &e) {
		return err // it says already whose it is
	}
	return wrap("update", s.id, err)
}

// write gives all groups what they are to have.
func (t *together) write(ctx context.Context) error {
	groups := make([]cgroups.GroupResources, len(t.parts))
	for i, p := range t.parts {
		now, err := p.driver.due(p.c, p.wanted)
		if err != nil {
			return wrap("update", p.id, err)
		}
		groups[i] = cgroups.GroupResources{Cgroup: p.c.Cgroup(), Resources: now}
	}
	result, err := t.root.UpdateAllWith(ctx, groups, t.cfg)
	if err != nil {
		t.refused = true
		return err
	}
	for i, p := range t.parts {
		err := p.driver.heed(ctx, p.c, p.wanted)
		if err == nil {
			continue
		}
		errs := []error{wrap("update", p.id, err)}
		for _, before := range slices.Backward(t.parts[:i]) {
			errs = append(errs, before.driver.heed(context.WithoutCancel(ctx), before.c, before.c.Spec.Resources))
		}
		return errors.Join(append(errs, result.Revert())...)
	}
	t.result = result
	return nil
}

// changesOf are the changes of one sandbox's group.
func (t *together) changesOf(s *Sandbox) (of []cgroups.Change) {
	for _, c := range t.result.Changes {
		if g := s.c.Cgroup(); g != nil && c.Cgroup == g.Path() {
			of = append(of, c)
		}
	}
	return of
}
