// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Event is one of [Pressure], [OOM], [LimitHit], [Populated], [Frozen], [Drift],
// [Failed], [Lost] and [Gone], as values.
type Event interface {
	// When is the time at which it was noticed.
	When() time.Time

	event()
}

// Source is how a [Pressure] event came about.
type Source uint8

const (
	// Trigger is a kernel trigger, which a process with CAP_SYS_RESOURCE gets.
	Trigger Source = iota + 1
	// Sampler is the engine, reading the total of stalled time periodically.
	Sampler
)

// String is "trigger" or "sampler".
func (s Source) String() string {
	switch s {
	case Trigger:
		return "trigger"
	case Sampler:
		return "sampler"
	}
	return "unknown"
}

// MarshalText is [Source.String].
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [Source.String] writes.
func (s *Source) UnmarshalText(text []byte) error {
	for known := Trigger; known <= Sampler; known++ {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return &cgroups.InvalidError{Field: "source", Value: string(text), Reason: "neither trigger nor sampler"}
}

// Pressure says that a threshold was crossed (Rising) or that this is over.
// Of one threshold, the first event is rising and they alternate; each falls at
// least one window after it rose.
type Pressure struct {
	Time time.Time `json:"time"`
	Threshold
	Rising bool `json:"rising"`

	// Stalled is the time stalled within the Span before Time. Span is the
	// window or what of it was observed. It is longer if nobody had looked
	// for longer: when a trigger wakes an idle watch, Stall within Window is
	// what the kernel vouches for, and Stalled is since the last look.
	Stalled time.Duration `json:"stalledNs"`
	Span    time.Duration `json:"spanNs"`

	// Throttled is the time within Span that the group stood still because
	// of its own cpu.max, summed over CPUs: stalling of that kind is not the
	// machine's shortage. The kernel counts each time when it ends, normally
	// within a period of cpu.max. It is there for cpu pressure of a group
	// under the cpu controller.
	Throttled cgroups.Reading[time.Duration] `json:"throttledNs,omitzero"`

	Total time.Duration `json:"totalNs"` // time stalled since the group was made

	// Source says who noticed, and Latency how long after the stall was
	// complete that is, at most, on a machine that has a CPU to spare for it.
	Source  Source        `json:"source"`
	Latency time.Duration `json:"latencyNs"`
}

// OOM says that the group, or on v2 a descendant, ran out of memory. The kill
// that follows may be in the same event or in the next.
type OOM struct {
	Time time.Time `json:"time"`

	// OOMs counts allocations that were about to fail, Kills the processes
	// killed, since the watch's last OOM event. v1 does not count the former;
	// if both are 0, it told of an OOM and killed nobody within a second.
	OOMs  uint64 `json:"ooms"`
	Kills uint64 `json:"kills"`
}

// LimitHit says that a limit held something back. While it waits to be read,
// further hits of the same limit are added to it.
type LimitHit struct {
	Time time.Time `json:"time"`

	// Resource is the limit: "memory.max", "memory.high", which v1 does not
	// have, or "pids.max". v1 tells of no hit, so they are looked for once a
	// second.
	Resource string `json:"resource"`
	Count    uint64 `json:"count"` // how often
}

// Populated says that the group, descendants included, got its first process
// or lost its last.
type Populated struct {
	Time      time.Time `json:"time"`
	Populated bool      `json:"populated"`
}

// Frozen says that all processes of the group are frozen now, or that they are
// not any more.
type Frozen struct {
	Time   time.Time `json:"time"`
	Frozen bool      `json:"frozen"`
}

// Drift says that a knob holds something else than was set, since somebody else
// wrote to it, or that this is over. The engine does not look for it; who does
// gives it to [Watch.Post].
type Drift struct {
	Time  time.Time `json:"time"`
	Since time.Time `json:"since"` // when it was first seen
	cgroups.Drift
	Over bool `json:"over,omitzero"` // the knob holds what was set again, by no doing of ours

	// Did is what was done about it: "reapplied", "accepted", or "given up"
	// if it comes back again and again. Err is why that failed.
	Did string `json:"did,omitzero"`
	Err string `json:"error,omitzero"`
}

// Failed says that one thing cannot be watched any more. The rest goes on.
type Failed struct {
	Time time.Time `json:"time"`
	What string    `json:"what"` // "cpu pressure", "memory.events"
	Err  error     `json:"-"`
}

// Lost stands in the place of N older events that were dropped because the
// reader was slow. State must be read afresh.
type Lost struct {
	Time time.Time `json:"time"` // when the last of them was dropped
	N    uint64    `json:"n"`
}

// Gone says that the group was removed. It is the last event.
type Gone struct {
	Time time.Time `json:"time"`
}

// When is Time.
func (e Pressure) When() time.Time { return e.Time }

// When is Time.
func (e OOM) When() time.Time { return e.Time }

// When is Time.
func (e LimitHit) When() time.Time { return e.Time }

// When is Time.
func (e Populated) When() time.Time { return e.Time }

// When is Time.
func (e Frozen) When() time.Time { return e.Time }

// When is Time.
func (e Drift) When() time.Time { return e.Time }

// When is Time.
func (e Failed) When() time.Time { return e.Time }

// When is Time.
func (e Lost) When() time.Time { return e.Time }

// When is Time.
func (e Gone) When() time.Time { return e.Time }

func (Pressure) event()  {}
func (OOM) event()       {}
func (LimitHit) event()  {}
func (Populated) event() {}
func (Frozen) event()    {}
func (Drift) event()     {}
func (Failed) event()    {}
func (Lost) event()      {}
func (Gone) event()      {}
