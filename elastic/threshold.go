// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A Threshold says how much stalling is too much: Stall within any Window. It
// is crossed once, upwards, and is over when the stalling has stayed below
// Clear for a whole Window.
type Threshold struct {
	Resource cgroups.PressureResource `json:"resource"`

	// Full counts only time in which all tasks stalled at once; otherwise it
	// is enough that one did.
	Full bool `json:"full,omitempty"`

	Stall  time.Duration `json:"stallNs"`  // more than 0, at most Window
	Window time.Duration `json:"windowNs"` // 500 ms to 10 s

	// Clear is at most Stall. 0 means half of it.
	Clear time.Duration `json:"clearNs,omitempty"`
}

// Validate returns an error that matches [cgroups.ErrInvalid] for a threshold
// that makes no sense. The bounds are those of the kernel's triggers, with or
// without the privilege to use them.
func (t Threshold) Validate() error {
	if t.Resource < cgroups.PressureCPU || t.Resource > cgroups.PressureIO {
		return &cgroups.InvalidError{Field: "threshold resource", Value: t.Resource.String(), Reason: "neither cpu nor memory nor io"}
	}
	if err := (cgroups.Trigger{Full: t.Full, Stall: t.Stall, Window: t.Window}).Validate(); err != nil {
		return err
	}
	if t.Clear < 0 || t.Clear > t.Stall {
		return &cgroups.InvalidError{Field: "threshold clear", Value: t.Clear.String(), Reason: "not within 0 and the stall of " + t.Stall.String()}
	}
	return nil
}

// clear is Clear with its default filled in.
func (t Threshold) clear() time.Duration {
	if t.Clear == 0 {
		return max(t.Stall/2, 1)
	}
	return t.Clear
}

// trigger is the kernel trigger that stands for t.
//
// Without CAP_SYS_RESOURCE the kernel takes windows that are multiples of two
// seconds, and then looks at them only when it renews its averages, seconds
// late or, if somebody else reads the file, never. Such a trigger is worse than
// sampling, and is avoided by never asking for such a window: a millisecond
// less is refused unless the trigger is a good one.
// (Linux 6.4, d82caa273565 "sched/psi: Allow unprivileged polling of N*2s period".)
func (t Threshold) trigger() cgroups.Trigger {
	k := cgroups.Trigger{Full: t.Full, Stall: t.Stall, Window: t.Window}
	if k.Window%cgroups.TriggerWindowStep == 0 {
		k.Window -= time.Millisecond
		k.Stall = min(k.Stall, k.Window)
	}
	return k
}

// The sampling periods: the longest, and what it may be halved down to.
const (
	slowest = 100 * time.Millisecond
	fastest = 25 * time.Millisecond
)

// period is how soon a sample follows a crossing of t: within a fifth of the window
// at most, from a few values that divide each other, so that the ticks of all
// thresholds coincide.
func (t Threshold) period() time.Duration {
	p := slowest
	for p > t.Window/5 && p > fastest {
		p /= 2
	}
	return p
}
