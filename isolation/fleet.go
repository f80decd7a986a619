// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// A Host is an [elastic.Fleet] and its sandboxes are [elastic.Target]s, so that
// an [elastic.Controller] can keep them apart.
var (
	_ elastic.Fleet      = (*Host)(nil)
	_ elastic.Announcing = (*Host)(nil)
	_ elastic.Bounded    = (*Host)(nil)
	_ elastic.Linked     = (*Host)(nil)
	_ elastic.Placed     = (*Host)(nil)

	_ elastic.Target    = (*Sandbox)(nil)
	_ elastic.Corrected = (*Sandbox)(nil)
	_ elastic.Networked = (*Sandbox)(nil)
)

// Targets are the sandboxes with a group, whose driver can measure and update
// them.
func (h *Host) Targets() iter.Seq[elastic.Target] {
	return func(yield func(elastic.Target) bool) {
		for s := range h.Sandboxes(nil) {
			_, measured := s.driver.(Statter)
			_, updated := s.driver.(Updater)
			if s.c.Cgroup() != nil && measured && updated && !yield(s) {
				return
			}
		}
	}
}

// Announce has f called, until stop is called, after each sandbox that this host has
// created or adopted, from the goroutine that did. Those of other processes that share
// the state directory are not announced.
func (h *Host) Announce(f func()) (stop func()) {
	l := &f
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners = append(h.listeners, l)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		// A copy: announce goes through the old one.
		h.listeners = slices.DeleteFunc(slices.Clone(h.listeners), func(other *func()) bool { return other == l })
	}
}

func (h *Host) announce() {
	h.mu.Lock()
	listeners := h.listeners
	h.mu.Unlock()
	for _, f := range listeners {
		(*f)()
	}
}

// Pressure is the whole machine's, of the files in /proc/pressure. See
// [cgroups.Root.Pressure].
func (h *Host) Pressure(r cgroups.PressureResource, p *cgroups.Pressure) error {
	if h.native.root == nil {
		return h.groupless("pressure")
	}
	return h.native.root.Pressure(r, p)
}

// Memory is the memory.max of [Host.Parent], and what all sandboxes use of it besides
// page cache that nobody has touched lately. ok is false if it has none.
func (h *Host) Memory() (limit, used uint64, ok bool, err error) {
	var st cgroups.Stats
	if h.Parent() == nil {
		return 0, 0, false, nil
	}
	if err := h.Parent().Stat(&st); err != nil {
		return 0, 0, false, err
	}
	limit, ok = st.Memory.Max.Value()
	if !ok || st.Memory.Max.IsMax() {
		return 0, 0, false, nil
	}
	used, _ = st.Memory.Current.Value()
	cold, _ := st.Memory.InactiveFile.Value()
	return limit, used - min(used, cold), true, nil
}

// CPUs are those that the sandboxes may run on: see [cgroups.Cgroup.EffectiveCPUs].
func (h *Host) CPUs() (cgroups.Set, error) {
	if h.Parent() == nil {
		return cgroups.Set{}, h.groupless("cpuset.cpus")
	}
	return h.Parent().EffectiveCPUs()
}

// Class is that of the spec.
func (s *Sandbox) Class() elastic.Class { return s.c.record.asked().Class }

// Asked are the limits of the spec, as last updated by the owner, without what
// others claim.
func (s *Sandbox) Asked() cgroups.Resources {
	if l := s.c.record.claims(); len(l.Claims) > 0 {
		return l.Base
	}
	return s.c.record.current().Resources
}

// squeezer is who claims the knobs that controllers move, below everybody who
// claims one by name.
const (
	squeezer         = "elastic"
	squeezerPriority = math.MinInt
)

// Squeeze claims the knobs that r names for a controller, besides those that it
// has claimed before: see [Sandbox.Claim] and [elastic.Target]. What r names and
// the owner asked for all the same is not claimed any more. The owner's own
// updates of such knobs are not refused, and count when the claim ends.
func (s *Sandbox) Squeeze(ctx context.Context, r cgroups.Resources) error {
	claimed := r.Clone()
	for _, c := range s.claims() {
		if c.Owner == squeezer {
			claimed = c.Resources.Merge(r)
		}
	}
	asked := s.Asked()
	for name, alone := range claimed.Knobs {
		if asked.Pick(name).Equal(alone) {
			claimed = claimed.Without(name)
		}
	}
	if claimed.IsZero() {
		_, err := s.Unclaim(ctx, squeezer)
		return err
	}
	_, err := s.Claim(ctx, Claim{Owner: squeezer, Priority: squeezerPriority, Lease: elastic.SqueezeLasts, Resources: claimed})
	return err
}

// Limits are those that hold now, read from the kernel: of the named controllers,
// or of all if none is named.
func (s *Sandbox) Limits(of ...cgroups.Controller) (cgroups.Resources, error) {
	if s.c.Cgroup() == nil {
		return cgroups.Resources{}, wrap("read limits", s.id, s.lacks("a group"))
	}
	r, err := s.c.Cgroup().Resources(of...)
	return r, wrap("read limits", s.id, err)
}

// Reclaim takes up to n bytes of memory from the sandbox that it does not use now.
// Having less to take is no error. See [cgroups.Cgroup.Reclaim].
func (s *Sandbox) Reclaim(ctx context.Context, n uint64) error {
	if s.c.Cgroup() == nil {
		return wrap("reclaim", s.id, s.lacks("a group"))
	}
	_, err := s.c.Cgroup().Reclaim(ctx, n)
	return wrap("reclaim", s.id, err)
}

// Frozen reports whether all processes stand still.
func (s *Sandbox) Frozen() (bool, error) {
	if s.c.Cgroup() == nil {
		return false, wrap("look whether frozen", s.id, s.lacks("a group"))
	}
	frozen, err := s.c.Cgroup().Frozen()
	return frozen, wrap("look whether frozen", s.id, err)
}

// Kill ends every process of the sandbox, which then is exited and not destroyed.
// Frozen, stopped and traced ones die too.
func (s *Sandbox) Kill(ctx context.Context) error {
	return s.change(ctx, "kill", func() error {
		if u, ok := s.driver.(ungroupedDriver); ok {
			return s.noted("kill", u.d.killFirst(ctx, s.c))
		}
		if s.c.Cgroup() == nil {
			return s.lacks("kill")
		}
		intent := entry{Act: actKill}
		// Without cgroup.kill the group may not fork meanwhile.
		if was, err := s.was(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(0)}}); err == nil && !was.IsZero() {
			intent.Was = &was
		}
		return s.noted("kill", s.during(intent, func() error { return s.c.Cgroup().Kill(ctx) }))
	})
}

// Corrected writes down in the journal why a controller has frozen, thawed or killed
// the sandbox; see [elastic.Corrected].
func (s *Sandbox) Corrected(c elastic.Correction) {
	s.note(JournalEntry{Event: "correction", Reason: c.String()})
}

// reported is what a service said of itself, and when.
type reported struct {
	elastic.Service
	at time.Time
}

// reportLasts is how long a service's word counts.
const reportLasts = 10 * time.Second

// Report takes in what the service in the sandbox says of its own work, for the
// controllers that go by it. It replaces the last report and counts for ten
// seconds: who stops reporting is taken to say nothing.
func (s *Sandbox) Report(r elastic.Service) {
	s.reported.Store(&reported{r, time.Now()})
}

// Service is the last report, or nil if there is none that still counts.
func (s *Sandbox) Service() *elastic.Service {
	r := s.reported.Load()
	if r == nil || time.Since(r.at) > reportLasts {
		return nil
	}
	service := r.Service
	return &service
}
