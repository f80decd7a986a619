// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// GroupResources are the knobs that an update of several groups gives to one of
// them.
type GroupResources struct {
	Cgroup    *Cgroup
	Resources Resources
}

// PlanAll says what [Root.UpdateAll] would do now, and does none of it. Its
// errors are those of [Cgroup.Plan], joined.
func (r *Root) PlanAll(all []GroupResources) (Plan, error) {
	t, err := r.begin(all)
	if err != nil {
		return Plan{}, err
	}
	defer t.end()
	return t.plan()
}

// UpdateAll is [Cgroup.Update] of several groups at once: a group with the
// groups below it, or any others of the root. All of them get what they are to
// have, or none does.
//
// Whatever grows does so from the top down, and then whatever shrinks does so
// from the bottom up, each knob by itself, so that a group never has more than
// the group above it, on the way as little as in the end. Lists of CPUs and
// memory nodes pass through the union of old and new. The order of all does not
// matter; each group may be in it once.
//
// What stands against a change in groups that are not in all, such as a child
// that has more, is the kernel's refusal, undone and explained in the
// [UpdateError].
func (r *Root) UpdateAll(ctx context.Context, all []GroupResources) (Result, error) {
	return r.UpdateAllWith(ctx, all, UpdateConfig{})
}

// UpdateAllWith is UpdateAll with a say in how memory limits fall.
func (r *Root) UpdateAllWith(ctx context.Context, all []GroupResources, cfg UpdateConfig) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	t, err := r.begin(all)
	if err != nil {
		return Result{}, err
	}
	defer t.end()
	t.cfg = cfg
	return t.update(ctx)
}

// transaction is an update under way.
type transaction struct {
	wanted []GroupResources // in the order of paths
	trees  []groupTree
	groups []group
	cfg    UpdateConfig
	locked int // trees whose groups no other update changes meanwhile

	// For one group, without allocating each.
	oneWanted [1]GroupResources
	oneTree   [1]groupTree
	oneGroup  [1]group
	planner   planner
	unbound   bool // nothing that the caller has refers to it any more
}

// begin checks what is wanted.
func (r *Root) begin(all []GroupResources) (*transaction, error) {
	all = slices.Clone(all)
	for _, g := range all {
		switch {
		case g.Cgroup == nil:
			return nil, &InvalidError{Field: "cgroup", Reason: "none"}
		case g.Cgroup.root != r:
			return nil, &InvalidError{Field: "cgroup", Value: g.Cgroup.path, Reason: "of another root"}
		}
		if err := g.Resources.Validate(); err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", g.Cgroup.path, err)
		}
	}
	slices.SortFunc(all, func(a, b GroupResources) int { return a.Cgroup.compare(b.Cgroup) })
	for i := range all[:max(0, len(all)-1)] {
		if c := all[i].Cgroup; c.compare(all[i+1].Cgroup) == 0 {
			return nil, &InvalidError{Field: "cgroup", Value: c.path, Reason: "a second entry for the group"}
		}
	}
	t := &transaction{wanted: all, trees: make([]groupTree, len(all)), groups: make([]group, len(all))}
	t.open()
	return t, nil
}

// compare gives groups one order, a parent before its children.
func (c *Cgroup) compare(o *Cgroup) int {
	return cmp.Or(strings.Compare(c.path, o.path), cmp.Compare(c.id.Dev, o.id.Dev), cmp.Compare(c.id.Ino, o.id.Ino))
}

// begin is [Root.begin] for one group.
func (c *Cgroup) begin(r Resources) (*transaction, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return c.beginValid(r), nil
}

func (c *Cgroup) beginValid(r Resources) *transaction {
	t, _ := c.root.updates.Get().(*transaction)
	if t == nil {
		t = new(transaction)
	}
	t.oneWanted[0] = GroupResources{c, r}
	t.wanted, t.trees, t.groups = t.oneWanted[:], t.oneTree[:], t.oneGroup[:]
	t.open()
	return t
}

func (t *transaction) open() {
	for i := range t.wanted {
		g := &t.wanted[i]
		t.trees[i].open(g.Cgroup)
		t.groups[i] = group{&t.trees[i], g.Cgroup.path, &g.Resources}
	}
}

// lock keeps other updates of the groups out, always from the first to the last,
// so that two transactions do not wait for each other.
func (t *transaction) lock(ctx context.Context) error {
	for i := range t.trees {
		if err := t.trees[i].c.updating.take(ctx); err != nil {
			return fmt.Errorf("update of cgroup %s: %w", t.trees[i].c.path, err)
		}
		t.trees[i].update = true
		t.locked++
	}
	return nil
}

// end frees what the transaction holds.
func (t *transaction) end() {
	for i := range t.trees {
		t.trees[i].close()
		if i < t.locked {
			t.trees[i].c.updating.give()
		}
	}
	if t.unbound && len(t.trees) == 1 {
		updates := &t.trees[0].c.root.updates
		*t = transaction{}
		updates.Put(t)
	}
}

// changes plans.
func (t *transaction) changes() ([]Change, error) {
	return t.planner.plan(pageSize, t.groups, t.cfg)
}

var pageSize = uint64(os.Getpagesize())

// enabling are the controllers that groups have to be brought under first.
func (t *transaction) enabling(changes []Change) (all []Enabling) {
	for i := range t.trees {
		g := &t.trees[i]
		var missing Controllers
		for j := range changes {
			if c := &changes[j]; c.in == tree(g) && g.in(c.Controller) == nil {
				missing |= ControllersOf(c.Controller)
			}
		}
		if missing != 0 {
			all = append(all, Enabling{g.c.path, missing})
		}
	}
	return all
}

func (t *transaction) plan() (Plan, error) {
	changes, err := t.changes()
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Changes: changes, Enable: t.enabling(changes), wanted: t.wanted}
	p.wanted = p.WantedAll() // the caller may change what it gave
	return p, nil
}

func (t *transaction) update(ctx context.Context) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if err := t.lock(ctx); err != nil {
		return Result{}, err
	}
	changes, err := t.changes()
	for i := range t.trees {
		t.trees[i].fresh = false
	}
	if err != nil {
		return Result{}, err
	}
	if enable := t.enabling(changes); enable != nil {
		if err := t.enable(ctx, enable); err != nil {
			return Result{}, err
		}
		// What was taken for granted of a new group can now be read.
		if changes, err = t.changes(); err != nil {
			return Result{}, err
		}
	}
	if err := apply(ctx, changes); err != nil {
		return Result{}, fmt.Errorf("update of cgroup %s: %w", t.names(), err)
	}
	for i := range changes {
		c := &changes[i]
		c.of, c.in = c.in.(*groupTree).c, nil
	}
	t.unbound = true
	return Result{Changes: changes}, nil
}

// enable brings the groups under the controllers that they lack, a parent
// before its children.
func (t *transaction) enable(ctx context.Context, all []Enabling) error {
	for _, e := range all {
		i := slices.IndexFunc(t.trees, func(g groupTree) bool { return g.c.path == e.Cgroup })
		for _, ctl := range e.Controllers.List() {
			c := t.trees[i].c
			c.mu.Lock()
			_, err := c.ensure(ctx, ctl)
			c.mu.Unlock()
			if err != nil {
				return err
			}
		}
		t.trees[i].look()
	}
	return nil
}

// names are the groups' paths, for messages.
func (t *transaction) names() string {
	paths := make([]string, len(t.groups))
	for i := range t.groups {
		paths[i] = t.groups[i].path
	}
	return strings.Join(paths, ", ")
}
