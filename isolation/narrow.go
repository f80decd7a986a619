// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/netns"
)

// narrowing is what a controller has limited a sandbox's network to, for a while: of
// each direction that it names the lower limit counts, its own or the one that
// UpdateNetwork has set. It is on disk before the kernel has it, and until the kernel
// has what was there before; so whatever becomes of the controller, it ends.
type narrowing struct {
	Until  time.Time     `json:"until"`
	Ends   time.Duration `json:"ends,omitzero"` // the same as a time since boot
	Limits []reshape     `json:"limits,omitempty"`
}

// Narrowed is how a controller has limited the sandbox's network.
type Narrowed struct {
	Until  time.Time                  `json:"until"`  // unless it is renewed
	Limits map[string]netns.Bandwidth `json:"limits"` // by the interface's name inside
}

// of is what n limits the interface to.
func (n narrowing) of(at int) netns.Bandwidth {
	for _, l := range n.Limits {
		if l.Interface == at {
			return l.Bandwidth
		}
	}
	return netns.Bandwidth{}
}

// with is n with other limits for the interface; directions without any are dropped.
func (n narrowing) with(at int, b netns.Bandwidth) narrowing {
	n.Limits = slices.DeleteFunc(slices.Clone(n.Limits), func(l reshape) bool { return l.Interface == at })
	if b != (netns.Bandwidth{}) {
		n.Limits = append(n.Limits, reshape{Interface: at, Bandwidth: b})
		slices.SortFunc(n.Limits, func(a, b reshape) int { return cmp.Compare(a.Interface, b.Interface) })
	}
	return n
}

// covering is n with what before limits besides.
func (n narrowing) covering(before narrowing) narrowing {
	for _, l := range before.Limits {
		n = n.with(l.Interface, l.Bandwidth.Merge(n.of(l.Interface)))
	}
	return n
}

// ends is when n does; zero if there is nothing to end.
func (n narrowing) ends() time.Time {
	if len(n.Limits) == 0 {
		return time.Time{}
	}
	return n.Until
}

// lower is what holds of the limits of an interface: set by its owner, unset being
// none, and narrowed; its priority is the owner's.
func lower(owner, narrowed netns.Bandwidth) netns.Bandwidth {
	least := func(a, b netns.Limit) netns.Limit {
		x, limited := a.Rate()
		y, narrow := b.Rate()
		switch {
		case narrow && (!limited || y < x):
			return b
		case limited:
			return a
		}
		return netns.Unlimited()
	}
	owner.Egress, owner.Ingress = least(owner.Egress, narrowed.Egress), least(owner.Ingress, narrowed.Ingress)
	return owner
}

// only is what which names of b.
func only(b, which netns.Bandwidth) netns.Bandwidth {
	if which.Egress.IsZero() {
		b.Egress = netns.Limit{}
	}
	if which.Ingress.IsZero() {
		b.Ingress = netns.Limit{}
	}
	if which.Priority.IsZero() {
		b.Priority = netns.Priority{}
	}
	return b
}

// SqueezeNetwork limits the sandbox's network for a controller, besides what that has
// limited before and not above what the owner has set; see [elastic.Networked].
// [cgroups.Max] gives that back. The limits end by themselves [elastic.SqueezeLasts]
// after the last call, also if this process has ended meanwhile: a later host ends them
// when it is opened. The owner's own [Sandbox.UpdateNetwork] is not refused, and counts
// where it is lower, and when they end.
func (s *Sandbox) SqueezeNetwork(ctx context.Context, limits ...elastic.LinkLimits) error {
	return s.change(ctx, "squeeze network", func() error {
		d, err := s.ownNetworker()
		if err != nil {
			return err
		}
		before := s.c.record.narrowed()
		after := before
		all := d.Interfaces(s.c)
		for _, l := range limits {
			at := interfaceNamed(all, l.Link)
			if at < 0 || l.Link == "" {
				return &InvalidError{Field: "interface", Value: clip(l.Link), Reason: "the sandbox has none of this name"}
			}
			b, err := narrowedTo(after.of(at), l)
			if err != nil {
				return err
			}
			after = after.with(at, b)
		}
		if len(before.Limits) == 0 && len(after.Limits) == 0 {
			return nil
		}
		after.Until, after.Ends = s.host.clock.now().Add(elastic.SqueezeLasts), s.host.clock.uptime()+elastic.SqueezeLasts
		return s.narrow(ctx, d, before, after)
	})
}

// narrowedTo is b with the limits of l.
func narrowedTo(b netns.Bandwidth, l elastic.LinkLimits) (netns.Bandwidth, error) {
	for _, d := range []struct {
		to   *netns.Limit
		want cgroups.Limit
	}{{&b.Egress, l.Egress}, {&b.Ingress, l.Ingress}} {
		rate, limited := d.want.Value()
		switch {
		case limited:
			*d.to = netns.BitsPerSecond(rate)
		case !d.want.IsZero():
			*d.to = netns.Limit{}
		}
	}
	return b, b.Validate()
}

// ownNetworker is the driver of a sandbox whose network is its own.
func (s *Sandbox) ownNetworker() (Networker, error) {
	d, ok := s.networker()
	if !ok {
		return nil, s.lacks("network limits")
	}
	if s.c.record.network() != netns.ModeNew {
		return nil, &UnsupportedError{Feature: "network limits", Reason: "the sandbox has no network of its own"}
	}
	return d, nil
}

// narrow changes what a controller has limited, for who has his turn: all of it, or
// nothing and the reason.
func (s *Sandbox) narrow(ctx context.Context, d Networker, before, after narrowing) error {
	both := after.covering(before)
	if err := s.c.record.add(entry{Narrowed: &both}); err != nil {
		return err
	}
	defer func() { s.host.leases.arm(s, s.c.record.ends()) }()
	all, owner := d.Interfaces(s.c), s.c.record.interfaces()
	var done []reshape
	for at := range min(len(all), len(owner)) {
		was, is := lower(owner[at].Bandwidth, before.of(at)), lower(owner[at].Bandwidth, after.of(at))
		change := both.of(at)
		if was.Egress == is.Egress {
			change.Egress = netns.Limit{}
		}
		if was.Ingress == is.Ingress {
			change.Ingress = netns.Limit{}
		}
		if change == (netns.Bandwidth{}) {
			continue
		}
		done = append(done, reshape{Interface: at, Bandwidth: only(was, change)})
		if err := d.UpdateNetwork(ctx, s.c, all[at].Name, only(is, change)); err != nil {
			for _, undo := range done {
				err = errors.Join(err, d.UpdateNetwork(context.WithoutCancel(ctx), s.c, all[undo.Interface].Name, undo.Bandwidth))
			}
			return errors.Join(err, s.c.record.add(entry{Narrowed: &before}))
		}
	}
	if len(done) > 0 {
		s.note(JournalEntry{Event: "squeeze network"})
	}
	if slices.Equal(both.Limits, after.Limits) {
		return nil
	}
	return s.c.record.add(entry{Narrowed: &after})
}

// widen ends what a controller has limited, if its time has come.
func (s *Sandbox) widen(ctx context.Context) error {
	return s.change(ctx, "end limits of the network of", func() error {
		before := s.c.record.narrowed()
		if len(before.Limits) == 0 || s.host.clock.now().Before(before.Until) {
			return nil
		}
		d, err := s.ownNetworker()
		if err != nil {
			return err
		}
		return s.narrow(ctx, d, before, narrowing{Until: before.Until})
	})
}

// narrowedNow is what a controller has limited, for Check.
func (s *Sandbox) narrowedNow() *Narrowed {
	n := s.c.record.narrowed()
	d, ok := s.networker()
	if !ok || len(n.Limits) == 0 {
		return nil
	}
	out := &Narrowed{Until: n.Until, Limits: make(map[string]netns.Bandwidth)}
	all := d.Interfaces(s.c)
	for _, l := range n.Limits {
		if l.Interface < len(all) {
			out.Limits[all[l.Interface].Name] = l.Bandwidth
		}
	}
	return out
}

// MeasureNetwork reads what went over the sandbox's network so far, and its limits, into
// n; see [elastic.Networked]. It matches [ErrNotSupported] if the sandbox has no network
// of its own.
func (s *Sandbox) MeasureNetwork(n *elastic.NetworkStats) error {
	err := s.measureNetwork(n)
	if errors.Is(err, fs.ErrClosed) {
		err = errors.Join(cgroups.ErrGone, s.host.released(err)) // destroyed meanwhile
	}
	return wrap("measure network", s.id, err)
}

func (s *Sandbox) measureNetwork(n *elastic.NetworkStats) error {
	d, err := s.ownNetworker()
	if err != nil {
		return err
	}
	n.Links, n.Segments, n.Retransmitted = n.Links[:0], 0, 0
	owner, narrowed := s.c.record.interfaces(), s.c.record.narrowed()
	for at, in := range d.Interfaces(s.c) {
		var st netns.InterfaceStats
		if err := d.StatNetwork(s.c, in.Name, &st); err != nil {
			return err
		}
		l := elastic.LinkStats{
			Link:    in.Name,
			Egress:  queueStats(st.Link.TxBytes, st.Link.TxPackets, st.Egress),
			Ingress: queueStats(st.Link.RxBytes, st.Link.RxPackets, st.Ingress),
		}
		if at < len(owner) {
			l.EgressBase, l.IngressBase = rates(owner[at].Bandwidth)
			l.EgressMax, l.IngressMax = rates(lower(owner[at].Bandwidth, narrowed.of(at)))
			l.IngressFixed = owner[at].Kind != netns.Veth
		}
		n.Links = append(n.Links, l)
	}
	if s.c.Network == nil {
		return nil // of a driver that has its own
	}
	var tcp netns.TCPStats
	if err := s.c.Network.Inside().TCP(&tcp); err != nil {
		return err
	}
	n.Segments, n.Retransmitted = tcp.Sent, tcp.Retransmitted
	return nil
}

// queueStats is what a link moved, and what waits for it.
func queueStats(bytes, packets uint64, q netns.Queue) elastic.QueueStats {
	return elastic.QueueStats{Bytes: bytes, Packets: packets, Drops: q.Drops, Backlog: q.Backlog}
}

// rates are the limits in bits a second, 0 is none.
func rates(b netns.Bandwidth) (egress, ingress float64) {
	x, _ := b.Egress.Rate()
	y, _ := b.Ingress.Rate()
	return float64(x), float64(y)
}
