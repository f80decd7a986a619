// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A Claim is what one owner wants of some of a sandbox's knobs for a while, over
// what [Sandbox.Update] has set.
//
// Of each knob the claim with the highest priority counts. When it ends, the
// next one does, and in the end what Update has set or, for a knob that nobody
// had set, what it held before.
type Claim struct {
	// Owner is who claims, by a name like a sandbox's; see [ValidateID]. An
	// owner has one claim on a sandbox.
	Owner string

	// Priority says who wins. A knob is refused to those who do not have more
	// than its holder.
	Priority int

	// Lease is how long the claim lasts unless it is made again: more than
	// nothing, and a day at most.
	Lease time.Duration

	// Resources are the values, and with them the knobs that are claimed.
	// cpu.weight and cpu.idle are claimed together.
	Resources cgroups.Resources
}

const (
	maxLease  = 24 * time.Hour
	maxOwners = 64 // of claims on one sandbox
)

// ClaimStatus is a claim as it stands.
type ClaimStatus struct {
	Owner     string            `json:"owner"`
	Priority  int               `json:"priority"`
	Until     time.Time         `json:"until"`
	Resources cgroups.Resources `json:"resources"`
	Holds     []string          `json:"holds"` // the knobs of which its value counts; others have been outbid
}

// Claim gives an owner the knobs that c names, or renews its claim, with other
// values and knobs if it likes: all of it or nothing. It survives a restart of
// this process, and ends by itself if it is not renewed.
//
// It fails with a [ConflictError], before anything is touched, if somebody whose
// priority is not lower has one of the knobs; otherwise as [Sandbox.Update] does.
// A knob that nobody has set and whose present value cannot be read, such as v2's
// devices, cannot be claimed: it could not be given back.
func (s *Sandbox) Claim(ctx context.Context, c Claim) (cgroups.Result, error) {
	if err := c.validate(); err != nil {
		return cgroups.Result{}, wrap("claim", s.id, err)
	}
	return s.relayer(ctx, "claim", func(l layers, now time.Time) (layers, error) {
		l, err := l.expired(now).put(lease{
			Owner: c.Owner, Priority: c.Priority, Until: now.Add(c.Lease), Ends: s.host.clock.uptime() + c.Lease, Resources: c.Resources.Clone(),
		})
		if err == nil && len(l.Claims) > maxOwners {
			err = &InvalidError{Field: "claim.owner", Value: clip(c.Owner), Reason: "more than " + strconv.Itoa(maxOwners) + " claims on the sandbox"}
		}
		return l, err
	})
}

// Unclaim ends the claim of an owner. It may be repeated.
func (s *Sandbox) Unclaim(ctx context.Context, owner string) (cgroups.Result, error) {
	return s.relayer(ctx, "unclaim", func(l layers, now time.Time) (layers, error) {
		return l.expired(now).drop(func(c lease) bool { return c.Owner == owner }), nil
	})
}

func (c Claim) validate() error {
	errs := []error{c.Resources.Validate()}
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: field, Value: clip(value), Reason: reason})
	}
	if ValidateID(c.Owner) != nil {
		bad("claim.owner", c.Owner, "not a name like that of a sandbox")
	}
	if c.Lease <= 0 || c.Lease > maxLease {
		bad("claim.lease", c.Lease.String(), "not above 0 and at most "+maxLease.String())
	}
	if c.Resources.IsZero() {
		bad("claim.resources", "", "no knob")
	}
	return errors.Join(errs...)
}

// relayer changes who holds what.
func (s *Sandbox) relayer(ctx context.Context, op string, change func(layers, time.Time) (layers, error)) (result cgroups.Result, err error) {
	err = s.change(ctx, op, func() error {
		result, err = s.relay(ctx, op, change)
		if err == nil {
			s.note(JournalEntry{Event: op, Changes: result.Changes})
		}
		return err
	})
	return result, err
}

// relay is relayer for who has his turn.
func (s *Sandbox) relay(ctx context.Context, op string, change func(layers, time.Time) (layers, error)) (result cgroups.Result, err error) {
	d, ok := s.driver.(Updater)
	if !ok || s.c.Cgroup() == nil {
		return result, s.lacks(op)
	}
	before := s.layers()
	after, err := change(before, s.host.clock.now())
	if err != nil {
		return result, err
	}
	if after.same(before) {
		s.host.leases.arm(s, s.c.record.ends())
		return result, nil
	}
	names := changed(before, after)
	if err := s.remember(&after, names); err != nil {
		return result, err
	}
	wanted, old, now := after.values(names), s.c.Spec.Resources, after.resources()
	both, kept := after.covering(before), after.pruned()
	before = before.pruned()
	// A claim is on disk before the kernel has its value, and until the kernel
	// has another: whatever happens in between, it ends.
	if err := s.c.record.add(entry{Update: &wanted, Layers: &both}); err != nil {
		return result, err
	}
	defer func() { s.host.leases.arm(s, s.c.record.ends()) }()
	if !wanted.IsZero() {
		if result, err = d.Update(ctx, s.c, settled(wanted), s.host.cfg.Update); err != nil {
			return result, errors.Join(err, s.c.record.add(entry{Updated: &old, Layers: &before}))
		}
	}
	if err := s.c.record.add(entry{Updated: &now, Layers: &kept}); err != nil {
		return result, err
	}
	s.c.Spec.Resources = now
	return result, nil
}

// unclaimed ends all claims, for who has his turn.
func (s *Sandbox) unclaimed(ctx context.Context) error {
	if len(s.c.record.claims().Claims) == 0 {
		return nil
	}
	_, err := s.relay(ctx, "unclaim", func(l layers, _ time.Time) (layers, error) {
		return l.drop(func(lease) bool { return true }), nil
	})
	if errors.Is(err, cgroups.ErrGone) {
		return nil
	}
	return err
}

// layers are the present ones.
func (s *Sandbox) layers() layers {
	l := s.c.record.claims()
	if len(l.Claims) == 0 {
		l.Base = s.c.Spec.Resources
	}
	return l
}

// remember notes what the named knobs hold that nobody has set.
func (s *Sandbox) remember(l *layers, names []string) error {
	have := l.Former.Merge(l.Base)
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !have.Pick(name).IsZero() })
	if len(missing) == 0 {
		return nil
	}
	now, err := s.c.Cgroup().Resources()
	if err != nil {
		return err
	}
	if now.CPU.Idle == cgroups.On {
		now.CPU.Weight = cgroups.DefaultWeight() // which the kernel gives a group that is idle no more
	}
	var named cgroups.Resources
	for _, c := range l.Claims {
		named = named.Merge(c.Resources)
	}
	former, unknown := now.Only(named.Pick(missing...))
	if len(unknown) > 0 {
		return &UnsupportedError{Feature: "claiming " + strings.Join(unknown, ", "),
			Reason: "what it holds now cannot be read, so it could not be given back: set it with Update first"}
	}
	l.Former = l.Former.Merge(now.Pick(missing...)).Merge(former)
	return nil
}

// under is the layers with r set by Update, what should hold then, and what of r
// is to be written for that. It fails with a [ConflictError] if somebody holds a
// knob of r's: other than a controller, under whose claim r is what counts later.
func (s *Sandbox) under(r cgroups.Resources) (l *layers, after, write cgroups.Resources, err error) {
	have := s.c.record.claims()
	if len(have.Claims) == 0 {
		return nil, s.c.Spec.Resources.Merge(r), r, nil
	}
	var none cgroups.Resources
	named := have.drop(func(c lease) bool { return c.Owner == squeezer })
	if err := named.conflict(knobs(r), math.MinInt); err != nil {
		return nil, none, none, err
	}
	write = r
	for _, c := range have.Claims {
		if c.Owner == squeezer {
			write = r.Without(knobs(c.Resources)...)
		}
	}
	have.Base = have.Base.Merge(r)
	return &have, have.resources(), write, nil
}

// expire ends the claims, and the limits of a network, whose time has come.
func (s *Sandbox) expire(ctx context.Context) error {
	if err := s.widen(ctx); err != nil || len(s.c.record.claims().Claims) == 0 {
		return err
	}
	_, err := s.relayer(ctx, "end claims of", func(l layers, now time.Time) (layers, error) { return l.expired(now), nil })
	return err
}

// claims are the present ones, for Check.
func (s *Sandbox) claims() (all []ClaimStatus) {
	l := s.c.record.claims()
	taken := make(map[string]bool)
	for _, c := range slices.Backward(l.Claims) {
		st := ClaimStatus{Owner: c.Owner, Priority: c.Priority, Until: c.Until, Resources: c.Resources.Clone(), Holds: []string{}}
		for _, name := range c.Resources.Names() {
			if !taken[name] {
				st.Holds = append(st.Holds, name)
			}
		}
		for _, name := range knobs(c.Resources) {
			taken[name] = true
		}
		all = append(all, st)
	}
	return all
}

// String reads `burst holds cpu.max with priority 10 until ...`.
func (c ClaimStatus) String() string {
	return fmt.Sprintf("%s holds %v with priority %d until %s", c.Owner, c.Holds, c.Priority, c.Until.Format(time.RFC3339))
}
