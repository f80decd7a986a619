// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// layers are what several owners want of one sandbox's knobs: of each knob the
// value of the highest claim counts, and without one that of Base. They are
// values: methods return others and change nothing.
type layers struct {
	Base   cgroups.Resources `json:"base,omitzero"`   // what Update has set
	Former cgroups.Resources `json:"former,omitzero"` // what claimed knobs held that Base does not name
	Claims []lease           `json:"claims,omitempty"`
}

// lease is a claim with its end. They are sorted by priority, the highest last;
// of two that share a knob one is higher.
type lease struct {
	Owner     string            `json:"owner"`
	Priority  int               `json:"priority"`
	Until     time.Time         `json:"until"`
	Ends      time.Duration     `json:"ends,omitzero"` // the same as a time since boot
	Resources cgroups.Resources `json:"resources"`
}

// knobs are the names of the knobs that r is about. The kernel couples weight
// and idle: an idle group has no weight.
func knobs(r cgroups.Resources) (names []string) {
	names = r.Names()
	const weight, idle = "cpu.weight", "cpu.idle"
	switch w, i := slices.Contains(names, weight), slices.Contains(names, idle); {
	case w && !i:
		names = append(names, idle)
	case i && !w:
		names = append(names, weight)
	}
	return names
}

// put is l with c, which replaces an earlier claim of its owner and outbids lower
// ones. It fails with a [ConflictError] if one that is not lower has a knob of
// c's.
func (l layers) put(c lease) (layers, error) {
	l = l.drop(func(other lease) bool { return other.Owner == c.Owner })
	if err := l.conflict(knobs(c.Resources), c.Priority); err != nil {
		return l, err
	}
	l.Claims = append(l.Claims, c)
	slices.SortStableFunc(l.Claims, func(a, b lease) int { return cmp.Compare(a.Priority, b.Priority) })
	return l, nil
}

// conflict finds the highest claim of a knob that somebody of this priority may
// not have.
func (l layers) conflict(names []string, priority int) error {
	for _, other := range slices.Backward(l.Claims) {
		if other.Priority < priority {
			continue
		}
		for _, name := range knobs(other.Resources) {
			if slices.Contains(names, name) {
				return &ConflictError{Knob: name, Owner: other.Owner, Priority: other.Priority, Until: other.Until}
			}
		}
	}
	return nil
}

// drop is l without some claims.
func (l layers) drop(which func(lease) bool) layers {
	l.Claims = slices.DeleteFunc(slices.Clone(l.Claims), which)
	return l
}

// expired is l without the claims that have ended.
func (l layers) expired(now time.Time) layers {
	return l.drop(func(c lease) bool { return !now.Before(c.Until) })
}

// resources are what should hold.
func (l layers) resources() cgroups.Resources { return l.over(l.Base) }

func (l layers) over(r cgroups.Resources) cgroups.Resources {
	for _, c := range l.Claims {
		r = r.Merge(c.Resources)
		// Who claims the weight of an idle group wants it to run.
		if r.CPU.Idle == cgroups.On && c.Resources.CPU.Idle == cgroups.Keep && !c.Resources.CPU.Weight.IsZero() {
			r.CPU.Idle = cgroups.Off
		}
	}
	return settled(r)
}

// settled is r as an update takes it: an idle group has no weight.
func settled(r cgroups.Resources) cgroups.Resources {
	if r.CPU.Idle == cgroups.On {
		r.CPU.Weight = cgroups.Weight{}
	}
	return r
}

// values are what the knobs should hold, also those that only claims have named.
func (l layers) values(names []string) cgroups.Resources {
	return l.over(l.Former.Merge(l.Base)).Pick(names...)
}

// claimed are the names of all knobs that are claimed.
func (l layers) claimed() (names []string) {
	for _, c := range l.Claims {
		names = append(names, knobs(c.Resources)...)
	}
	return names
}

// pruned is l as it is kept: without former values of knobs that nobody claims.
func (l layers) pruned() layers {
	if len(l.Claims) == 0 {
		return layers{}
	}
	l.Former = l.Former.Pick(l.claimed()...)
	return l
}

// covering is l with what others or the same owners had claimed before besides.
func (l layers) covering(before layers) layers {
	l.Claims = slices.Clone(l.Claims)
	for _, old := range before.Claims {
		i := slices.IndexFunc(l.Claims, func(c lease) bool { return c.Owner == old.Owner })
		if i < 0 {
			l.Claims = append(l.Claims, old)
			continue
		}
		l.Claims[i].Resources = old.Resources.Merge(l.Claims[i].Resources)
	}
	return l
}

// same reports whether nothing about any claim differs.
func (l layers) same(other layers) bool {
	return slices.EqualFunc(l.Claims, other.Claims, func(a, b lease) bool {
		return a.Owner == b.Owner && a.Priority == b.Priority && a.Until.Equal(b.Until) && a.Resources.Equal(b.Resources)
	})
}

// changed are the names of the knobs of those claims that are in one of the two
// and not in the other.
func changed(before, after layers) (names []string) {
	missing := func(c lease, in layers) bool {
		return !slices.ContainsFunc(in.Claims, func(o lease) bool {
			return o.Owner == c.Owner && o.Priority == c.Priority && o.Resources.Equal(c.Resources)
		})
	}
	for _, c := range before.Claims {
		if missing(c, after) {
			names = append(names, knobs(c.Resources)...)
		}
	}
	for _, c := range after.Claims {
		if missing(c, before) {
			names = append(names, knobs(c.Resources)...)
		}
	}
	return names
}

// ends is when the first claim does; zero if there is none.
func (l layers) ends() (first time.Time) {
	for _, c := range l.Claims {
		if first.IsZero() || c.Until.Before(first) {
			first = c.Until
		}
	}
	return first
}

// ErrConflict is matched by errors that say somebody else holds a knob.
var ErrConflict = errors.New("held by another owner")

// ConflictError says who holds a knob, and how. It matches [ErrConflict].
type ConflictError struct {
	Knob     string // as [cgroups.Resources.Knobs] calls it
	Owner    string
	Priority int
	Until    time.Time // unless it is renewed
}

// Error reads `memory.max is held by "burst" with priority 10 until ...`.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is held by %q with priority %d until %s: claim it with a higher priority, or wait",
		e.Knob, e.Owner, e.Priority, e.Until.Format(time.RFC3339))
}

// Is reports whether target is [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
