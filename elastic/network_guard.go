// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// NetworkGuard keeps the link to the outside for the services: it limits the
// networks of best-effort sandboxes, each direction for itself.
//
// Where it is known how much the link can carry, best effort is left what the others
// do not use, less a reserve for what they will in the next second, as by the network
// controller of Heracles (Lo et al., ISCA 2015):
//
//	link - others - max(5% of the link, 10% of others)
//
// Others is what goes over the link besides best effort, the machine's own traffic
// with it; where only the link's speed is known, it is what the other sandboxes
// do. What best effort sends within the machine counts as if it went over the link.
//
// Known or not, best effort gets less when a service suffers: when TCP has to send
// again what it sent, more than the queue of its own limit dropped (Retransmits), when
// the link's queue makes packets wait (Delay) or drops them (Dropped), or when a
// service says itself that it is too slow while best effort moves more than everybody
// else together. What best effort sends comes down by Down, to Floor at the lowest, and
// stays there for a snapshot, since what that shows is still from before; in the last
// case it is what best effort receives, if that is more. It comes back by Up at each
// snapshot after a second of calm, until it is Lift times what best effort moved before,
// as with [IOGuard]. Nothing grows by more than Grow of the link at once, where that is
// known.
//
// What is left is divided by demand, max-min fairly; a limit of the owner's own is
// never exceeded. Where there is nobody to protect, there are no limits.
//
// It is none of the [Defaults]: to measure the queues of networks waits for the kernel's
// lock on network configuration, which is held long while networks are taken apart. Where
// many come and go, it is best alone in a controller of its own.
//
// The zero value has the defaults given at each field. Those of the reserve are
// Heracles'; those of Retransmits, Delay and Dropped are nobody's: well above what an
// idle link shows, and where interactive work is slow enough to be noticed.
type NetworkGuard struct {
	Egress  float64 // bits a second that the link can carry; 0 is what the fleet says, and else not known
	Ingress float64

	LinkReserve float64 // of the link; 0 is 0.05
	UseReserve  float64 // of what others use; 0 is 0.10

	Retransmits float64       // share of its TCP segments that a service sends again; 0 is 0.02
	Delay       time.Duration // in the link's queue; 0 is 10 ms
	Dropped     float64       // share of the packets that the link's queue drops; 0 is 0.01

	Down  float64 // 0 is 0.7
	Up    float64 // 0 is 1.05
	Lift  float64 // 0 is 2
	Grow  float64 // share of the link; 0 is 0.10
	Floor float64 // bits a second for each link of a best-effort sandbox; 0 is 1 Mbit
	Step  float64 // a limit rises if it is more than this share too low, and falls if it is a fifth of that too high; 0 is 0.05

	egress, ingress funnel
}

// funnel is one direction.
type funnel struct {
	budget float64       // what suffering has left all best effort; 0 is anything
	seen   float64       // what it moved before
	calm   time.Duration // of snapshots in which nobody suffered
	given  float64       // what all of it was given last; 0 is anything
	fresh  bool          // it was lowered just now: what is measured next is still from before
}

// Name is "network-guard".
func (*NetworkGuard) Name() string { return "network-guard" }

// Levers are the limits of best effort's networks.
func (*NetworkGuard) Levers() []Lever {
	return []Lever{{BestEffort, KnobEgress}, {BestEffort, KnobIngress}}
}

// distress says that a service suffers, and from what.
type distress struct {
	why    string
	eased  bool // no more than half of what counts
	expect Expectation
	sends  bool // it is what is sent that suffers; otherwise it may be either
}

// stream is one direction of a link of a best-effort sandbox.
type stream struct {
	id, link string
	flow     *Flow
}

// traffic is everything in one direction.
type traffic struct {
	knob    Knob
	streams []stream
	ours    float64 // what best effort moves
	others  float64 // what everybody else does
	link    float64 // what the link can carry; 0 is not known
}

// Decide moves the limits of best effort.
func (p *NetworkGuard) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 {
		return nil
	}
	out := p.traffic(s, KnobEgress, p.Egress, func(l *LinkUse) *Flow { return &l.Egress })
	in := p.traffic(s, KnobIngress, p.Ingress, func(l *LinkUse) *Flow { return &l.Ingress })
	d := p.suffers(s, out, in)
	sends := d.sends || out.ours >= in.ours
	return append(p.decide(s, &p.egress, out, d, sends), p.decide(s, &p.ingress, in, d, !sends)...)
}

// traffic adds up one direction.
func (p *NetworkGuard) traffic(s *Snapshot, knob Knob, link float64, of func(*LinkUse) *Flow) *traffic {
	t := &traffic{knob: knob, link: link}
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		if u.Network == nil {
			continue
		}
		for j := range u.Network.Links {
			l := &u.Network.Links[j]
			f := of(l)
			switch {
			case u.Class != BestEffort:
				t.others += f.Rate
			case u.Frozen:
			case f.Fixed:
				t.ours += f.Rate
			default:
				t.ours += f.Rate
				t.streams = append(t.streams, stream{u.ID, l.Link, f})
			}
		}
	}
	if up := s.Machine.Uplink; up != nil {
		t.others = max(t.others, of(up).Rate-t.ours)
		t.link = cmp.Or(t.link, of(up).Max)
	}
	return t
}

// suffers says who suffers from a network that is too busy.
func (p *NetworkGuard) suffers(s *Snapshot, out, in *traffic) distress {
	const within = 10 * time.Second
	var worst distress
	worst.eased = true
	judge := func(figure, limit float64, why func() string, e Expectation) {
		if figure > limit && worst.why == "" {
			worst.why, worst.expect, worst.sends = why(), e, e.Figure != FigureSlack
			worst.expect.Within = within
		}
		worst.eased = worst.eased && figure <= limit/2
	}
	if up := s.Machine.Uplink; up != nil {
		limit, delay := cmp.Or(p.Delay, 10*time.Millisecond), up.Egress.Delay
		judge(delay.Seconds(), limit.Seconds(), func() string {
			return fmt.Sprintf("packets wait %v in the queue of %s, more than %v", delay.Round(time.Millisecond/10), up.Link, limit)
		}, Expectation{Figure: FigureUplinkDelay, Most: limit.Seconds()})
		share := cmp.Or(p.Dropped, 0.01)
		judge(up.Egress.Dropped, share, func() string {
			return fmt.Sprintf("the queue of %s drops %.1f%% of the packets, more than %.1f%%", up.Link, 100*up.Egress.Dropped, 100*share)
		}, Expectation{Figure: FigureUplinkDropped, Most: share})
	}
	lossy, lost := s.worst(func(u *Use) float64 { return u.Network.lost() })
	if lossy != nil {
		limit := cmp.Or(p.Retransmits, 0.02)
		judge(lost, limit, func() string {
			return fmt.Sprintf("%s has to send %.1f%% of its segments again, more than %.1f%%", lossy.ID, 100*lost, 100*limit)
		}, Expectation{Figure: FigureRetransmits, Of: lossy.ID, Most: limit})
	}
	slow, late := s.worst(func(u *Use) float64 {
		if slack, ok := u.Service.Slack(); ok && u.Network != nil {
			return -slack
		}
		return 0
	})
	if slow != nil && (out.ours > out.others || in.ours > in.others) {
		judge(late, 0, func() string {
			return fmt.Sprintf("%s misses its target by %.0f%%, and best effort moves more than everybody else", slow.ID, 100*late)
		}, Expectation{Figure: FigureSlack, Of: slow.ID, Least: 0.001})
	}
	return worst
}

// decide moves the limits of one direction; here says that suffering is answered in
// this one.
func (p *NetworkGuard) decide(s *Snapshot, f *funnel, t *traffic, d distress, here bool) []Correction {
	if len(t.streams) == 0 || !protects(s) {
		*f = funnel{}
		return p.lift(t, "there is nobody to protect")
	}
	floor := cmp.Or(p.Floor, 1e6) * float64(len(t.streams))
	why, expect := p.budget(s, f, t, d, here, floor)
	amount := f.budget
	if t.link > 0 {
		reserve := max(cmp.Or(p.LinkReserve, 0.05)*t.link, cmp.Or(p.UseReserve, 0.10)*t.others)
		left := max(floor, t.link-t.others-reserve)
		if amount == 0 || left < amount {
			amount, expect = left, Expectation{}
			why = fmt.Sprintf("the link carries %s, others use %s, and %s are kept for them", mbit(t.link), mbit(t.others), mbit(reserve))
		}
		if grown := f.given + cmp.Or(p.Grow, 0.10)*t.link; f.given > 0 {
			amount = min(amount, grown)
		}
	}
	f.fresh = amount > 0 && amount < cmp.Or(f.given, t.ours)
	f.given = amount
	if amount == 0 {
		return p.lift(t, "no service has suffered for a while")
	}
	return p.divide(t, amount, why, expect)
}

// budget lowers what best effort may have while somebody suffers, and raises it when
// that is over.
func (p *NetworkGuard) budget(s *Snapshot, f *funnel, t *traffic, d distress, here bool, floor float64) (why string, e Expectation) {
	switch {
	case d.why != "":
		f.calm = 0
		if !here || t.ours <= floor || f.fresh {
			break // it is not they, or they have less already
		}
		if f.budget == 0 {
			f.budget, f.seen = t.ours, t.ours
		}
		f.budget = max(floor, min(f.budget, t.ours)*cmp.Or(p.Down, 0.7))
		return d.why, d.expect
	case !d.eased:
		f.calm = 0
	default:
		f.calm += s.Elapsed
	}
	if f.calm >= time.Second && f.budget > 0 {
		if f.budget *= cmp.Or(p.Up, 1.05); f.budget >= f.seen*cmp.Or(p.Lift, 2) {
			f.budget, f.seen = 0, 0
		}
	}
	return fmt.Sprintf("no service has suffered for %v", f.calm), Expectation{}
}

// divide gives each stream its share of amount.
func (p *NetworkGuard) divide(t *traffic, amount float64, why string, e Expectation) []Correction {
	demands := make([]float64, len(t.streams))
	for i, st := range t.streams {
		if demands[i] = st.flow.Rate; st.flow.Max > 0 && st.flow.Rate >= 0.9*st.flow.Max {
			demands[i] = math.Inf(1)
		}
	}
	var out []Correction
	for i, share := range shares(amount, demands) {
		st := t.streams[i]
		share = max(share, cmp.Or(p.Floor, 1e6))
		if st.flow.Base > 0 && share >= st.flow.Base {
			if st.flow.squeezed() {
				out = append(out, p.correction(t, st, Release, cgroups.Max(), why+"; there is as much for it as its owner wants"))
			}
			continue
		}
		now := st.flow.Max
		step := cmp.Or(p.Step, 0.05) * now
		if now > 0 && share <= now+step && share >= now-step/5 {
			continue
		}
		rung, has := Throttle, "no limit"
		if now > 0 {
			if has = mbit(now); share > now {
				rung = Release
			}
		}
		c := p.correction(t, st, rung, cgroups.Count(uint64(share)),
			fmt.Sprintf("%s; it moves %s and gets %s, instead of %s", why, mbit(st.flow.Rate), mbit(share), has))
		if c.Expect = e; rung == Throttle && e.IsZero() {
			c.Expect = Expectation{Figure: t.figure(), Of: st.id, Most: 1.1 * share, Within: 5 * time.Second}
		} else if rung == Release {
			c.Expect = Expectation{}
		}
		out = append(out, c)
	}
	return out
}

// lift gives back what was taken.
func (p *NetworkGuard) lift(t *traffic, why string) []Correction {
	var out []Correction
	for _, st := range t.streams {
		if st.flow.squeezed() {
			out = append(out, p.correction(t, st, Release, cgroups.Max(), why))
		}
	}
	return out
}

// lost is the share of the segments that were lost outside of the sandbox: not in the
// queues of its own limits.
func (n *NetworkUse) lost() float64 {
	if n == nil {
		return 0
	}
	own := 0.0
	for i := range n.Links {
		own = max(own, n.Links[i].Egress.Dropped)
	}
	return max(0, n.Retransmitted-own)
}

// squeezed reports whether the limit that holds is below the owner's.
func (f *Flow) squeezed() bool { return f.Max > 0 && (f.Base == 0 || f.Max < f.Base) }

func (p *NetworkGuard) correction(t *traffic, st stream, r Rung, limit cgroups.Limit, why string) Correction {
	l := LinkLimits{Link: st.link}
	if t.knob == KnobEgress {
		l.Egress = limit
	} else {
		l.Ingress = limit
	}
	return Correction{Policy: p.Name(), Sandbox: st.id, Rung: r, Network: []LinkLimits{l}, Reason: why}
}

func (t *traffic) figure() Figure {
	if t.knob == KnobEgress {
		return FigureEgress
	}
	return FigureIngress
}

// protects reports whether somebody runs for whom best effort is squeezed.
func protects(s *Snapshot) bool {
	for i := range s.Sandboxes {
		if u := &s.Sandboxes[i]; u.Class != BestEffort && !u.Frozen {
			return true
		}
	}
	return false
}

func mbit(bits float64) string { return fmt.Sprintf("%.1f Mbit/s", bits/1e6) }
