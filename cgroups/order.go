// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"cmp"
	"slices"
	"strings"
)

// stage is when a change has its turn. In a tree of groups the kernel wants what
// a child may have within what its parent has (cpuset and the share of CPU on
// v1, partitions), and where it does not insist, a child gets no more than that
// (limits and protections of memory). So all that grows does so from the top
// down, before all that shrinks does so from the bottom up: at each moment every
// group then lies between what it had and what it gets, within its parent if it
// is before and after.
type stage int8

const (
	release stage = iota - 1 // exclusive CPUs are given up for others to take, from the bottom up
	grow                     // from the top down; also what neither grows nor shrinks
	shrink                   // from the bottom up
	claim                    // groups that have their CPUs become partitions, from the top down
	reclaim                  // memory shrinks last, from the bottom up
)

// What a shrink of memory reclaims is not given back by undoing it, so
// everything that may be refused should have been by then: hence reclaim.

func (s stage) bottomUp() bool { return s == release || s == shrink || s == reclaim }

// towards is the stage of a limit that goes from one amount to another.
func towards(from, to uint64) stage {
	if to < from {
		return shrink
	}
	return grow
}

// order puts the changes of all groups, which are in the order of paths, into
// that of their stages. It keeps the order within a group.
func (p *planner) order() {
	if p.several {
		p.widen()
		p.explainOrder()
	}
	const few = 16
	if len(p.changes) > few {
		slices.SortStableFunc(p.changes, func(a, b Change) int { return a.turn(&b) })
		return
	}
	// Changes are large, and a few are sooner moved once than swapped.
	for i := range p.changes {
		to := i
		for to > 0 && p.changes[to-1].turn(&p.changes[i]) > 0 {
			to--
		}
		if to < i {
			c := p.changes[i]
			copy(p.changes[to+1:i+1], p.changes[to:i])
			p.changes[to] = c
		}
	}
}

// turn compares when c and o have their turns.
func (c *Change) turn(o *Change) int {
	if c.stage != o.stage {
		return cmp.Compare(c.stage, o.stage)
	}
	if c.stage.bottomUp() {
		return strings.Compare(o.place, c.place)
	}
	return strings.Compare(c.place, o.place)
}

// isBelow reports whether the group at path is below the one at above.
func isBelow(path, above string) bool {
	return len(path) > len(above) && path[len(above)] == '/' && strings.HasPrefix(path, above)
}

// related reports whether changes has one of the same knob for a group above, or
// below, that of c; with sameTurn only one that has its turn in the same stage.
func related(changes []Change, c *Change, sameTurn bool) (above, below bool) {
	for i := range changes {
		if o := &changes[i]; o.Knob == c.Knob && (o.stage == c.stage || !sameTurn) {
			above = above || isBelow(c.place, o.place)
			below = below || isBelow(o.place, c.place)
		}
	}
	return above, below
}

// explainOrder says of each change that has to wait for another group's, or the
// other way about, why it is where it is.
func (p *planner) explainOrder() {
	for i := range p.changes {
		c := &p.changes[i]
		above, below := related(p.changes, c, true)
		why := ""
		switch up := c.stage.bottomUp(); {
		case below && up:
			why = "shrinks after the groups below it"
		case above && up:
			why = "shrinks before the group above it"
		case below:
			why = "grows before the groups below it"
		case above:
			why = "grows after the group above it"
		}
		switch {
		case why == "":
		case c.Why == "":
			c.Why = why
		default:
			c.Why = why + "; " + c.Why
		}
	}
}
