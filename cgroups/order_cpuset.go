// SPDX-License-Identifier: Apache-2.0

package cgroups

import "slices"

// widen gives each change of a list of CPUs or memory nodes its stage. A list
// that gains members and loses others does both one after the other, if a group
// above or below changes too: first the union from the top down, then what is
// wanted from the bottom up. The CPUs of a partition are nobody else's, so it
// goes the other way: it first gives up what it is to lose.
func (p *planner) widen() {
	planned := slices.Clone(p.changes)
	p.changes = p.changes[:0:0]
	for i := range planned {
		c := &planned[i]
		if c.Controller != ControllerCPUSet || c.File == partitionFile {
			p.changes = append(p.changes, *c)
			continue
		}
		from, to := spansOf(c.Old), spansOf(c.want)
		grows, shrinks := !from.holds(to), !to.holds(from)
		exclusive := c.keeps
		via := Change{}
		switch {
		case !exclusive && c.Old == "": // for a kernel that insists on subsets, none and not all
		case !exclusive && c.want == "":
			c.stage = shrink
		case exclusive && grows && shrinks:
			if both := from.common(to); len(both) > 0 {
				via = c.through(both, release, "gives up the CPUs that others may be waiting for")
			}
		case exclusive && shrinks:
			c.stage = release
		case exclusive:
		case grows && shrinks:
			above, below := related(planned, c, false)
			if above || below {
				via = c.through(append(slices.Clone(from), to...), grow, "what it had and what it gets, until the groups above and below have changed")
				c.stage = shrink
			}
		case shrinks:
			c.stage = shrink
		}
		if via.File != "" {
			p.changes = append(p.changes, via)
		}
		p.changes = append(p.changes, *c)
	}
}

// through makes c the second of two changes, of which the first, returned, has
// its turn in stage s and writes members.
func (c *Change) through(members members, s stage, why string) Change {
	first := *c
	first.New, first.Why, first.stage, first.passing = formatSpans(members), why, s, true
	first.want, first.keeps = first.New, false
	c.Old, c.undo = first.New, nil
	return first
}

// members are spans in the kernel's order; nil is everything, which an empty
// list stands for on v2.
type members []span

func spansOf(list string) members {
	spans, _ := parseSpans(list)
	return spans
}

// holds reports whether every member of o is in m.
func (m members) holds(o members) bool {
	if m == nil || o == nil {
		return m == nil
	}
	return len(m.common(o)) == len(o) && slices.Equal(m.common(o), o)
}

// common is what is in both. Neither is nil, and both are canonical.
func (m members) common(o members) members {
	var both members
	for _, a := range m {
		for _, b := range o {
			if first, last := max(a.first, b.first), min(a.last, b.last); first <= last {
				both = append(both, span{first, last})
			}
		}
	}
	return both
}
