// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Trouble is what a sandbox, or the machine, suffers from.
type Trouble uint8

// The troubles.
const (
	Throttled    Trouble = iota + 1 // its own cpu.max holds it back
	CPUShort                        // it waits for CPUs that others have
	MemoryShort                     // it stands still while memory is found
	Refaulting                      // it reads again what was reclaimed from it
	IOShort                         // it waits for devices
	ServiceSlow                     // it says itself that it misses its target
	NetworkShort                    // what it sends is lost on the way
)

var troubleNames = [...]string{"unknown", "throttled", "cpu-short", "memory-short", "refaulting", "io-short", "service-slow", "network-short"}

// String is "throttled", "cpu-short" and so on.
func (t Trouble) String() string {
	if int(t) < len(troubleNames) {
		return troubleNames[t]
	}
	return troubleNames[0]
}

// MarshalText is [Trouble.String].
func (t Trouble) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what [Trouble.String] writes.
func (t *Trouble) UnmarshalText(text []byte) error {
	for known := Throttled; int(known) < len(troubleNames); known++ {
		if string(text) == troubleNames[known] {
			*t = known
			return nil
		}
	}
	return &cgroups.InvalidError{Field: "trouble", Value: string(text), Reason: "no such trouble"}
}

// Grade is how bad it is.
type Grade uint8

// The grades.
const (
	Fine Grade = iota
	Elevated
	High
	Critical
)

var gradeNames = [...]string{"fine", "elevated", "high", "critical"}

// String is "fine", "elevated", "high" or "critical".
func (g Grade) String() string {
	if int(g) < len(gradeNames) {
		return gradeNames[g]
	}
	return "unknown"
}

// MarshalText is [Grade.String].
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads what [Grade.String] writes.
func (g *Grade) UnmarshalText(text []byte) error {
	for known, name := range gradeNames {
		if string(text) == name {
			*g = Grade(known)
			return nil
		}
	}
	return &cgroups.InvalidError{Field: "grade", Value: string(text), Reason: "not one of fine, elevated, high and critical"}
}

// Report says that a trouble got better or worse.
type Report struct {
	At      time.Duration `json:"at"`
	Who     string        `json:"who,omitempty"` // a sandbox; empty is the machine
	Trouble Trouble       `json:"trouble"`
	From    Grade         `json:"from"`
	Grade   Grade         `json:"grade"`
	Figure  float64       `json:"figure"` // what was graded; see [Bounds]

	// Suspects are who probably causes it, the likeliest first; none for what
	// a sandbox does to itself, and when it is over.
	Suspects []Suspect `json:"suspects,omitempty"`
}

// Suspect is a sandbox that may cause a trouble of another.
type Suspect struct {
	ID     string  `json:"id"`
	Share  float64 `json:"share"`  // of what all the others do together, 0 to 1
	Figure float64 `json:"figure"` // CPUs, or bytes a second
}

// String reads "web: memory-short is high (0.31), was fine; batch 82%".
func (r Report) String() string {
	s := fmt.Sprintf("%s: %s is %s (%.2f), was %s", cmp.Or(r.Who, "the machine"), r.Trouble, r.Grade, r.Figure, r.From)
	for i, x := range r.Suspects {
		sep := ", "
		if i == 0 {
			sep = "; "
		}
		s += fmt.Sprintf("%s%s %.0f%%", sep, x.ID, 100*x.Share)
	}
	return s
}

// Bounds are the figures from which a trouble is elevated, high and critical. A
// grade is left downwards only below Ease times its bound, for Hold, so that a
// figure at a bound does not flicker. For Throttled the figure is the share of
// periods, for the shortages the share of time with a stall, for Refaulting
// refaults a second, for ServiceSlow the share by which the target is missed, for
// NetworkShort the share of TCP segments that are sent again and that its own limit
// did not drop, or of the packets that the queue of the machine's [Linked] link drops;
// it takes a policy that goes by networks for them to be measured.
type Bounds struct {
	Elevated, High, Critical float64
}

// MonitorConfig is when a [Monitor] speaks. The zero value has the defaults
// given at each field.
type MonitorConfig struct {
	Bounds map[Trouble]Bounds // of a trouble that is not in it: 0.05, 0.20 and 0.50, for refaults 100, 1000 and 10000, for networks 0.02, 0.05 and 0.20
	Ease   float64            // 0 is 0.7
	Hold   time.Duration      // 0 is 5 s
}

// Monitor grades what each sandbox and the machine suffer from, and says who
// probably causes it. It is pure, as policies are.
type Monitor struct {
	cfg    MonitorConfig
	states map[ailment]*ailing
}

type ailment struct {
	who     string
	trouble Trouble
}

type ailing struct {
	grade Grade
	since time.Duration // since when the figure has been low enough for less
	eased bool
	seen  bool
}

// NewMonitor makes a monitor to which everything is fine.
func NewMonitor(cfg MonitorConfig) *Monitor {
	if !(cfg.Ease > 0 && cfg.Ease <= 1) {
		cfg.Ease = 0.7
	}
	if cfg.Hold <= 0 {
		cfg.Hold = 5 * time.Second
	}
	return &Monitor{cfg: cfg, states: make(map[ailment]*ailing)}
}

func (m *Monitor) bounds(t Trouble) Bounds {
	if b, ok := m.cfg.Bounds[t]; ok {
		return b
	}
	switch t {
	case Refaulting:
		return Bounds{100, 1000, 10000}
	case NetworkShort:
		return Bounds{0.02, 0.05, 0.20}
	case Throttled, CPUShort, MemoryShort, IOShort, ServiceSlow:
	}
	return Bounds{0.05, 0.20, 0.50}
}

// grade is what figure is worth.
func (b Bounds) grade(figure float64) Grade {
	switch {
	case figure >= b.Critical:
		return Critical
	case figure >= b.High:
		return High
	case figure >= b.Elevated:
		return Elevated
	}
	return Fine
}

// Observe takes the next snapshot and returns what changed, the machine first.
// A sandbox that is gone is not reported to be fine.
func (m *Monitor) Observe(s *Snapshot) []Report {
	if s.Elapsed <= 0 {
		return nil
	}
	for _, a := range m.states {
		a.seen = false
	}
	var out []Report
	look := func(who string, t Trouble, figure float64) {
		if r, changed := m.look(s, ailment{who, t}, figure); changed {
			if r.Grade > r.From {
				r.Suspects = suspects(s, who, t)
			}
			out = append(out, r)
		}
	}
	of := func(who string, st *Stalls) {
		look(who, CPUShort, st.CPU.Some)
		look(who, MemoryShort, st.Memory.Some)
		look(who, IOShort, st.IO.Some)
	}
	of("", &s.Machine.Stalls)
	if up := s.Machine.Uplink; up != nil {
		look("", NetworkShort, up.Egress.Dropped)
	}
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		if u.Frozen {
			continue
		}
		look(u.ID, Throttled, u.Throttled)
		of(u.ID, &u.Stalls)
		look(u.ID, Refaulting, u.Refaults)
		if slack, ok := u.Service.Slack(); ok {
			look(u.ID, ServiceSlow, max(0, -slack))
		}
		if u.Network != nil {
			look(u.ID, NetworkShort, u.Network.lost())
		}
	}
	for k, a := range m.states {
		if !a.seen {
			delete(m.states, k)
		}
	}
	return out
}

// look grades one figure.
func (m *Monitor) look(s *Snapshot, k ailment, figure float64) (Report, bool) {
	a := m.states[k]
	if a == nil {
		a = &ailing{}
		m.states[k] = a
	}
	a.seen = true
	b := m.bounds(k.trouble)
	from, to := a.grade, b.grade(figure)
	// Downwards it is graded as if the figure were larger than it is.
	if eased := b.grade(figure / m.cfg.Ease); to < from {
		to = min(from, eased)
	}
	switch {
	case to > from:
		a.eased = false
	case to == from:
		a.eased = false
		return Report{}, false
	case !a.eased:
		a.eased, a.since = true, s.At
		return Report{}, false
	case s.At-a.since < m.cfg.Hold:
		return Report{}, false
	default:
		a.eased = false
	}
	a.grade = to
	return Report{At: s.At, Who: k.who, Trouble: k.trouble, From: from, Grade: to, Figure: figure}, true
}

// suspects ranks the others by how much they do of what hurts.
func suspects(s *Snapshot, who string, t Trouble) []Suspect {
	var f func(u *Use) float64
	switch t {
	case CPUShort, ServiceSlow:
		f = func(u *Use) float64 { return u.CPU }
	case MemoryShort, Refaulting:
		f = func(u *Use) float64 { return max(u.Growth, 0) + pageSize*u.Refaults }
	case IOShort:
		f = func(u *Use) float64 {
			sum := 0.0
			for _, d := range u.IO {
				sum += d.ReadBytes + d.WriteBytes
			}
			return sum
		}
	case NetworkShort:
		f = func(u *Use) float64 {
			sent, _ := u.Network.figure(FigureEgress)
			return sent
		}
	case Throttled:
		return nil
	default:
		return nil
	}
	var list []Suspect
	sum := 0.0
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		if v := f(u); u.ID != who && v > 0 {
			list = append(list, Suspect{ID: u.ID, Figure: v})
			sum += v
		}
	}
	for i := range list {
		list[i].Share = list[i].Figure / sum
	}
	slices.SortStableFunc(list, func(a, b Suspect) int {
		return cmp.Or(-cmp.Compare(a.Figure, b.Figure), strings.Compare(a.ID, b.ID))
	})
	const most = 3
	return list[:min(len(list), most)]
}
