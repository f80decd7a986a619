// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"fmt"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Rung is how hard a [Correction] is on its sandbox. The ladder is climbed one
// rung after the other: what can be taken back comes before what cannot.
type Rung uint8

// The rungs, from the mildest.
const (
	Release  Rung = iota + 1 // gives back what an earlier correction took
	Throttle                 // sets limits
	Reclaim                  // takes memory that is not in use now
	Freeze                   // stops every process
	Kill                     // ends every process
)

var rungNames = [...]string{"unknown", "release", "throttle", "reclaim", "freeze", "kill"}

// String is "release", "throttle", "reclaim", "freeze" or "kill".
func (r Rung) String() string {
	if int(r) < len(rungNames) {
		return rungNames[r]
	}
	return rungNames[0]
}

// MarshalText is [Rung.String].
func (r Rung) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [Rung.String] writes.
func (r *Rung) UnmarshalText(text []byte) error {
	for known := Release; int(known) < len(rungNames); known++ {
		if string(text) == rungNames[known] {
			*r = known
			return nil
		}
	}
	return &cgroups.InvalidError{Field: "rung", Value: string(text), Reason: "not one of release, throttle, reclaim, freeze and kill"}
}

// Correction is one thing that a policy wants done to one sandbox, and why. It
// is plain data; nothing is done by making one.
type Correction struct {
	Policy  string `json:"policy"`  // who wants it
	Sandbox string `json:"sandbox"` // to whom
	Rung    Rung   `json:"rung"`

	// Resources are the limits that Throttle sets, and that Release gives
	// back. A Release without any thaws.
	Resources cgroups.Resources `json:"resources,omitzero"`

	// Network are limits in the place of Resources, for a target that is
	// [Networked].
	Network []LinkLimits `json:"network,omitempty"`

	// Bytes is how much Reclaim is to take.
	Bytes uint64 `json:"bytes,omitempty"`

	// Reason is why, in words, with the figures that led to it.
	Reason string `json:"reason"`

	// Expect is what should become of it; the controller looks whether it
	// did. The zero Expectation expects nothing.
	Expect Expectation `json:"expect,omitzero"`
}

// String reads `cpu-suppress: throttle batch-1: the machine has ...`.
func (c Correction) String() string {
	return fmt.Sprintf("%s: %s %s: %s", c.Policy, c.Rung, c.Sandbox, c.Reason)
}

// Validate returns an error that matches [cgroups.ErrInvalid] for a correction
// that says nothing, or more than its rung can do.
func (c Correction) Validate() error {
	invalid := func(reason string) error {
		return &cgroups.InvalidError{Field: "correction", Value: c.String(), Reason: reason}
	}
	limits := c.limits()
	switch {
	case c.Policy == "" || c.Sandbox == "" || c.Reason == "":
		return invalid("policy, sandbox and reason must be there")
	case c.Rung < Release || int(c.Rung) >= len(rungNames):
		return invalid("no such rung")
	case c.Rung == Throttle && !limits:
		return invalid("a throttle needs limits")
	case limits && c.Rung != Throttle && c.Rung != Release:
		return invalid("only throttle and release have limits")
	case (c.Rung == Reclaim) != (c.Bytes > 0):
		return invalid("reclaim, and only reclaim, has bytes")
	case len(c.Network) > 0 && !c.Resources.IsZero():
		return invalid("limits of a network are a correction of their own")
	}
	for _, l := range c.Network {
		if why := l.validate(); why != "" {
			return invalid(why)
		}
	}
	return c.Resources.Validate()
}

// limits reports whether c sets any.
func (c Correction) limits() bool { return !c.Resources.IsZero() || len(c.Network) > 0 }

// Thaws reports whether c has a frozen sandbox go on: a release of nothing else.
func (c Correction) Thaws() bool { return c.Rung == Release && !c.limits() }

// Figure is a number of a [Snapshot] that an [Expectation] is about.
type Figure string

// The figures. Those of a sandbox are of Expectation.Of.
const (
	FigureNone        Figure = ""
	FigureMachineFree Figure = "machine.free"  // bytes
	FigureMemory      Figure = "memory"        // bytes
	FigureMemorySome  Figure = "memory.some"   // share of the time, 0 to 1
	FigureIOSome      Figure = "io.some"       // share of the time, 0 to 1
	FigureCPU         Figure = "cpu"           // CPUs
	FigureThrottled   Figure = "cpu.throttled" // share of the periods, 0 to 1
	FigureSlack       Figure = "service.slack" // share of the target
	FigureFrozen      Figure = "cgroup.freeze" // 1 is frozen

	FigureEgress        Figure = "network.egress"      // bits a second, over all links
	FigureIngress       Figure = "network.ingress"     // bits a second, over all links
	FigureRetransmits   Figure = "network.retransmits" // share of the TCP segments, 0 to 1
	FigureUplinkDelay   Figure = "uplink.delay"        // seconds, of what is sent
	FigureUplinkDropped Figure = "uplink.dropped"      // share of the packets sent, 0 to 1
)

// Expectation is a figure that a correction is to move, and by when.
type Expectation struct {
	Figure Figure        `json:"figure,omitempty"`
	Of     string        `json:"of,omitempty"` // a sandbox; empty is the machine
	Least  float64       `json:"least,omitempty"`
	Most   float64       `json:"most,omitempty"` // 0 with a Least: no upper bound
	Within time.Duration `json:"within,omitempty"`
}

// IsZero reports whether nothing is expected.
func (e Expectation) IsZero() bool { return e.Figure == FigureNone }

// String reads "memory.some of web at most 0.05 within 10s".
func (e Expectation) String() string {
	if e.IsZero() {
		return "nothing"
	}
	var b strings.Builder
	b.WriteString(string(e.Figure))
	if e.Of != "" {
		b.WriteString(" of " + e.Of)
	}
	if e.Least != 0 {
		fmt.Fprintf(&b, " at least %.4g", e.Least)
	}
	if e.Most != 0 || e.Least == 0 {
		fmt.Fprintf(&b, " at most %.4g", e.Most)
	}
	fmt.Fprintf(&b, " within %v", e.Within)
	return b.String()
}

// met reports whether s has the figure where it was expected. ok is false if s
// does not have it at all: the sandbox is gone, or says nothing of it.
func (e Expectation) met(s *Snapshot) (got float64, met, ok bool) {
	got, ok = e.Figure.in(s, e.Of)
	if !ok {
		return 0, false, false
	}
	upper := e.Most != 0 || e.Least == 0
	return got, (e.Least == 0 || got >= e.Least) && (!upper || got <= e.Most), true
}

func (f Figure) in(s *Snapshot, of string) (v float64, ok bool) {
	switch f {
	case FigureMachineFree:
		return float64(s.Machine.Free), true
	case FigureUplinkDelay, FigureUplinkDropped:
		return s.Machine.uplink(f)
	default:
	}
	u := s.Find(of)
	if u == nil {
		return 0, false
	}
	switch f {
	case FigureMemory:
		return float64(u.Memory), true
	case FigureMemorySome:
		return u.Stalls.Memory.Some, true
	case FigureIOSome:
		return u.Stalls.IO.Some, true
	case FigureCPU:
		return u.CPU, true
	case FigureThrottled:
		return u.Throttled, true
	case FigureSlack:
		return u.Service.Slack()
	case FigureFrozen:
		if u.Frozen {
			return 1, true
		}
		return 0, true
	case FigureEgress, FigureIngress, FigureRetransmits:
		return u.Network.figure(f)
	case FigureNone, FigureMachineFree, FigureUplinkDelay, FigureUplinkDropped:
	}
	return 0, false
}

// A Policy decides from snapshots what is to be done. It keeps what it must
// remember from one snapshot to the next, and has no clock, no randomness and no
// I/O: a policy made anew and given the same snapshots decides the same.
//
// What it asked for need not have happened: it may have been vetoed, or refused
// by the kernel. The next snapshot tells what holds.
type Policy interface {
	// Name is what its corrections are signed with: "cpu-suppress".
	Name() string

	// Levers are what it pulls. No two policies of a controller share one.
	Levers() []Lever

	// Decide is called with each snapshot, in order. The snapshot is read only
	// and is not kept.
	Decide(s *Snapshot) []Correction
}

// A Greeter is a [Policy] that says where a new sandbox belongs before it is known what
// that does.
type Greeter interface {
	// Greet is called with each snapshot that has new sandboxes, between those that
	// Decide is called with, and as it is.
	Greet(s *Snapshot) []Correction
}

// Lever is something about the sandboxes of one class that only one policy may
// move.
type Lever struct {
	Class Class `json:"class"`
	Knob  Knob  `json:"knob"`
}

// String reads "cpu.max of best-effort".
func (l Lever) String() string { return string(l.Knob) + " of " + l.Class.String() }

// Knob is a limit by the kernel's name, or one of the constants. Taking memory by
// [Reclaim] leaves nothing behind, so it is no knob, and open to every policy.
type Knob string

// The knobs that the built-in policies move.
const (
	KnobCPUMax    Knob = "cpu.max"
	KnobCPUs      Knob = "cpuset.cpus"
	KnobMemoryLow Knob = "memory.low"
	KnobIOMax     Knob = "io.max"
	KnobFreeze    Knob = "cgroup.freeze"
	KnobKill      Knob = "cgroup.kill"

	// Limits of all links of a sandbox's own network.
	KnobEgress  Knob = networkKnobs + "egress"
	KnobIngress Knob = networkKnobs + "ingress"
)

const networkKnobs = "network."
