// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A Networked target has a network of its own, which can be measured and limited. A
// [Meter] and a [Controller] ask a [Target] that is one, for policies that go by
// networks. An error that matches [cgroups.ErrNotSupported] says that this one has
// none.
type Networked interface {
	// MeasureNetwork reads what went over its links so far, and their limits, into n.
	// It does not allocate once n is warm.
	MeasureNetwork(n *NetworkStats) error

	// SqueezeNetwork has limits hold on its links, besides those set before and not
	// above what its owner asked for; [cgroups.Max] gives that back. As those of
	// [Target.Squeeze] they end [SqueezeLasts] after the last call, which may name
	// none.
	SqueezeNetwork(ctx context.Context, limits ...LinkLimits) error
}

// A Linked fleet knows the link that its sandboxes share to the outside. A [Meter]
// asks a [Fleet] that is one.
type Linked interface {
	// Uplink reads what went over it so far. An error that matches
	// [cgroups.ErrNotSupported] says that none is known.
	Uplink(u *UplinkStats) error
}

// LinkLimits are limits of one link of a sandbox, in bits a second, seen from inside.
// What is unset stays as it is.
type LinkLimits struct {
	Link    string        `json:"link"` // its name inside
	Egress  cgroups.Limit `json:"egress,omitzero"`
	Ingress cgroups.Limit `json:"ingress,omitzero"`
}

// validate returns why l cannot be set, or nothing.
func (l LinkLimits) validate() string {
	if l.Link == "" || l.Egress.IsZero() && l.Ingress.IsZero() {
		return "limits of a network need a link and a direction"
	}
	for _, limit := range []cgroups.Limit{l.Egress, l.Ingress} {
		if v, ok := limit.Value(); ok && v == 0 || limit.IsDefault() {
			return "a network is limited to so many bits a second, or to max"
		}
	}
	return ""
}

// NetworkStats is what went over a sandbox's network since it was made.
type NetworkStats struct {
	Links []LinkStats

	// Segments are those that TCP sent in it, and Retransmitted those of them that it
	// sent once more.
	Segments, Retransmitted uint64
}

// LinkStats is what went over one link of a sandbox. Limits are in bits a second, 0
// is none.
type LinkStats struct {
	Link                    string
	Egress, Ingress         QueueStats
	EgressMax, IngressMax   float64 // that hold
	EgressBase, IngressBase float64 // that its owner asked for

	EgressFixed, IngressFixed bool // what cannot be limited
}

// QueueStats is what passed in one direction, and what becomes of it in the queue
// that a limit makes.
type QueueStats struct {
	Bytes   uint64
	Packets uint64
	Drops   uint64 // packets that found the queue full
	Backlog uint64 // bytes that wait
}

// UplinkStats is what went over the link that sandboxes share.
type UplinkStats struct {
	Link            string
	Egress, Ingress QueueStats
	Sends, Receives float64 // bits a second that it can carry; 0 is not known
}

// NetworkUse is what a sandbox does over its own network.
type NetworkUse struct {
	Links []LinkUse `json:"links,omitempty"`

	// Retransmitted is the share of the TCP segments sent that had to be sent again:
	// they were lost on the way, wherever that was.
	Retransmitted float64 `json:"retransmitted,omitempty"`
}

// LinkUse is what goes over one link.
type LinkUse struct {
	Link    string `json:"link"`
	Egress  Flow   `json:"egress"`
	Ingress Flow   `json:"ingress"`
}

// Flow is what goes in one direction, in bits a second.
type Flow struct {
	Rate    float64       `json:"rate"`
	Max     float64       `json:"max,omitempty"`     // the limit that holds, or what a shared link can carry; 0 is none
	Base    float64       `json:"base,omitempty"`    // the limit that the owner asked for; 0 is none
	Dropped float64       `json:"dropped,omitempty"` // share of the packets that found the queue full
	Delay   time.Duration `json:"delay,omitempty"`   // how long the last packet in the queue will have waited
	Fixed   bool          `json:"fixed,omitempty"`   // it cannot be limited
}

// networkMeter remembers the counters of one sandbox's network.
type networkMeter struct {
	now, then NetworkStats
	known     bool // then is of the snapshot before
}

// read measures the network of t; nil if it has none.
func (m *networkMeter) read(t Target, elapsed time.Duration) (*NetworkUse, error) {
	n, ok := t.(Networked)
	if !ok {
		return nil, nil //nolint:nilnil // most have none
	}
	m.now, m.then = m.then, m.now
	if err := n.MeasureNetwork(&m.now); err != nil {
		m.known = false
		if errors.Is(err, cgroups.ErrNotSupported) {
			err = nil
		}
		return nil, err
	}
	use := &NetworkUse{}
	known := m.known && elapsed > 0
	m.known = true
	if segments := more(m.then.Segments, m.now.Segments); known && segments > 0 {
		use.Retransmitted = min(1, float64(more(m.then.Retransmitted, m.now.Retransmitted))/float64(segments))
	}
	for i := range m.now.Links {
		l := &m.now.Links[i]
		u := LinkUse{
			Link:    l.Link,
			Egress:  Flow{Max: l.EgressMax, Base: l.EgressBase, Fixed: l.EgressFixed},
			Ingress: Flow{Max: l.IngressMax, Base: l.IngressBase, Fixed: l.IngressFixed},
		}
		for j := range m.then.Links {
			if was := &m.then.Links[j]; known && was.Link == l.Link {
				u.Egress.over(was.Egress, l.Egress, elapsed)
				u.Ingress.over(was.Ingress, l.Ingress, elapsed)
			}
		}
		use.Links = append(use.Links, u)
	}
	return use, nil
}

// over sets what passed between two looks.
func (f *Flow) over(then, now QueueStats, elapsed time.Duration) {
	f.Rate = float64(more(then.Bytes, now.Bytes)) * 8 / elapsed.Seconds()
	dropped := more(then.Drops, now.Drops)
	if all := dropped + more(then.Packets, now.Packets); all > 0 {
		f.Dropped = float64(dropped) / float64(all)
	}
	if now.Backlog == 0 {
		return
	}
	if f.Delay = elapsed; f.Rate > 0 { // or nothing left the queue
		f.Delay = time.Duration(min(float64(now.Backlog)*8/f.Rate, 3600) * float64(time.Second))
	}
}

// more is by how much a counter grew; one that began anew did by what it has.
func more(then, now uint64) uint64 {
	if now < then {
		return now
	}
	return now - then
}

// uplinkMeter is networkMeter for the link that sandboxes share.
type uplinkMeter struct {
	now, then UplinkStats
	known     bool
}

func (m *uplinkMeter) read(f Fleet, elapsed time.Duration) (*LinkUse, error) {
	l, ok := f.(Linked)
	if !ok {
		return nil, nil //nolint:nilnil // few have one
	}
	m.now, m.then = UplinkStats{}, m.now
	if err := l.Uplink(&m.now); err != nil {
		m.known = false
		if errors.Is(err, cgroups.ErrNotSupported) {
			err = nil
		}
		return nil, err
	}
	use := &LinkUse{Link: m.now.Link, Egress: Flow{Max: m.now.Sends}, Ingress: Flow{Max: m.now.Receives}}
	if m.known && elapsed > 0 && m.then.Link == m.now.Link {
		use.Egress.over(m.then.Egress, m.now.Egress, elapsed)
		use.Ingress.over(m.then.Ingress, m.now.Ingress, elapsed)
	}
	m.known = true
	return use, nil
}

// figure is one of the figures of a network.
func (n *NetworkUse) figure(f Figure) (v float64, ok bool) {
	if n == nil {
		return 0, false
	}
	if f == FigureRetransmits {
		return n.Retransmitted, true
	}
	for i := range n.Links {
		if f == FigureEgress {
			v += n.Links[i].Egress.Rate
		} else {
			v += n.Links[i].Ingress.Rate
		}
	}
	return v, true
}

// uplink is one of the figures of the shared link.
func (m *MachineUse) uplink(f Figure) (v float64, ok bool) {
	if m.Uplink == nil {
		return 0, false
	}
	if f == FigureUplinkDelay {
		return m.Uplink.Egress.Delay.Seconds(), true
	}
	return m.Uplink.Egress.Dropped, true
}

// goesByNetwork reports whether one of the policies moves limits of networks, and so
// wants them measured.
func goesByNetwork(policies []Policy) bool {
	for _, p := range policies {
		for _, l := range p.Levers() {
			if strings.HasPrefix(string(l.Knob), networkKnobs) {
				return true
			}
		}
	}
	return false
}
