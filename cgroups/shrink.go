// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"time"
)

// UpdateConfig is how [Cgroup.UpdateWith] goes about an update. The zero value
// is what [Cgroup.Update] does.
type UpdateConfig struct {
	Shrink Shrink
	Guard  Guard
}

// Validate returns an [InvalidError] for what makes no sense.
func (c UpdateConfig) Validate() error {
	if c.Shrink > Force {
		return &InvalidError{Field: "shrink", Value: c.Shrink.String(), Reason: "neither gradual nor refuse nor force"}
	}
	return c.Guard.validate()
}

// Shrink is what is done with a memory.max that is below what is in use.
type Shrink uint8

const (
	// Gradual has the kernel reclaim memory step by step, under a [Guard], with
	// the limit following behind. It kills nobody, and ends in one of three ways:
	// done; restored, with a [ShrinkError], if the guard trips, if there is no
	// progress or if ctx ends; or refused with an [InUseError], before anything
	// is touched, if what cannot be reclaimed is above the limit from the
	// beginning. What cannot be reclaimed has to leave a 64th of the limit free,
	// and at least 1 MiB, for the group to live on; less is [StoppedUnreclaimable].
	//
	// The steps are writes to memory.reclaim. Where the kernel has none (before
	// Linux 5.19) memory.high is lowered for the time of each step and put back
	// at once; that slows the group down, and if the calling process is killed
	// within those milliseconds the low value stays until somebody updates
	// memory.high. On v1 the steps are memory.limit_in_bytes itself, which the
	// kernel refuses to set below what it cannot reclaim.
	Gradual Shrink = iota

	// Refuse changes nothing: an [InUseError].
	Refuse

	// Force writes the limit at once. On v2 the kernel reclaims and, if that is
	// not enough, kills; on v1 it refuses instead, an [InUseError].
	Force
)

// String is "gradual", "refuse" or "force".
func (s Shrink) String() string {
	switch s {
	case Gradual:
		return "gradual"
	case Refuse:
		return "refuse"
	case Force:
		return "force"
	}
	return fmt.Sprintf("shrink(%d)", uint8(s))
}

// MarshalText is [Shrink.String].
func (s Shrink) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [Shrink.String] writes.
func (s *Shrink) UnmarshalText(text []byte) error {
	for known := Gradual; known <= Force; known++ {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return &InvalidError{Field: "shrink", Value: string(text), Reason: "neither gradual nor refuse nor force"}
}

// The defaults of [Guard].
const (
	DefaultGuardWindow = time.Second
	DefaultGuardSome   = 500 * time.Millisecond
	DefaultGuardFull   = 250 * time.Millisecond
)

// Guard says how much a group may suffer from a [Gradual] shrink. The zero value
// means the defaults.
//
// The kernel accounts memory pressure in the unified tree, for v1 limits too.
// Where it does not (psi=0), a shrink is stopped instead when as much was read
// back into memory as was to be taken away. It is stopped in any case when
// nothing has been gained for a Window.
type Guard struct {
	// Window is the time over which the other two are measured.
	Window time.Duration

	// Some and Full are for how long, within any Window, some and all of the
	// group's tasks may wait for memory, as in a [Trigger]. A value equal to
	// Window never trips.
	Some, Full time.Duration
}

func (g Guard) validate() error {
	d := g.withDefaults()
	for _, f := range []struct {
		name string
		d    time.Duration
		most time.Duration
	}{{"guard window", d.Window, time.Hour}, {"guard some", d.Some, d.Window}, {"guard full", d.Full, d.Window}} {
		if f.d <= 0 || f.d > f.most {
			return &InvalidError{Field: f.name, Value: f.d.String(), Reason: "not above 0 and up to " + f.most.String()}
		}
	}
	return nil
}

// withDefaults fills in what is zero; the shares stay as they are by default if
// only the window is given.
func (g Guard) withDefaults() Guard {
	if g.Window == 0 {
		g.Window = DefaultGuardWindow
	}
	if g.Some == 0 {
		g.Some = g.Window / (DefaultGuardWindow / DefaultGuardSome)
	}
	if g.Full == 0 {
		g.Full = g.Window / (DefaultGuardWindow / DefaultGuardFull)
	}
	return g
}

// Shrunk is what a [Gradual] shrink did.
type Shrunk struct {
	Steps     int           `json:"steps"`     // rounds of reclaim
	Before    uint64        `json:"before"`    // bytes in use at the beginning
	After     uint64        `json:"after"`     // and at the end
	Reclaimed uint64        `json:"reclaimed"` // bytes by which steps brought the usage down; more than the difference if some came back
	Refaulted uint64        `json:"refaulted"` // bytes that were read back into memory meanwhile
	Some      time.Duration `json:"someNs"`    // for how long some tasks waited for memory meanwhile
	Full      time.Duration `json:"fullNs"`    // and all at once
	Took      time.Duration `json:"tookNs"`
}

// ShrinkStop is why a shrink was stopped.
type ShrinkStop uint8

// Why a shrink was stopped.
const (
	StoppedByContext     ShrinkStop = iota + 1 // the caller's context ended
	StoppedByPressure                          // the [Guard] tripped
	StoppedByRefaults                          // as much came back as was to go
	StoppedNoProgress                          // nothing was gained for a whole window
	StoppedUnreclaimable                       // what cannot be reclaimed would nearly fill the limit
)

// String is "context", "pressure", "refaults", "no progress" or "unreclaimable".
func (s ShrinkStop) String() string {
	switch s {
	case StoppedByContext:
		return "context"
	case StoppedByPressure:
		return "pressure"
	case StoppedByRefaults:
		return "refaults"
	case StoppedNoProgress:
		return "no progress"
	case StoppedUnreclaimable:
		return "unreclaimable"
	}
	return fmt.Sprintf("stop(%d)", uint8(s))
}

// MarshalText is [ShrinkStop.String].
func (s ShrinkStop) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ShrinkError says why a memory limit did not come down. Nobody was killed, and
// the limit is what it was before unless an [UpdateError] around this one says
// otherwise. It matches [ErrInUse], except when the context ended: then it
// matches the context's error.
type ShrinkError struct {
	Knob  string     // "memory.max"
	Limit uint64     // what was to be set, bytes
	Last  uint64     // where the limit had come to
	Stays uint64     // of what is in use, bytes that cannot be reclaimed
	Stop  ShrinkStop // why
	Shrunk
	Err error // the context's error, or the kernel's
}

// Error reads "memory.max 33554432: pressure: 50331648 in use after 12 steps in
// 1.2s, of it 4096 unreclaimable; tasks waited 800ms for memory, all of them
// 300ms".
func (e *ShrinkError) Error() string {
	s := fmt.Sprintf("%s %d: %v: %d in use after %d steps in %v, of it %d unreclaimable; tasks waited %v for memory, all of them %v",
		e.Knob, e.Limit, e.Stop, e.After, e.Steps, e.Took.Round(time.Millisecond), e.Stays, e.Some.Round(time.Microsecond), e.Full.Round(time.Microsecond))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is [ErrInUse] and the group was the reason.
func (e *ShrinkError) Is(target error) bool { return target == ErrInUse && e.Stop != StoppedByContext }

// Unwrap gives the context's error, or the kernel's.
func (e *ShrinkError) Unwrap() error { return e.Err }
