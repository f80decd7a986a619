// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"time"
)

// The kernel's bounds for a [Trigger].
const (
	MinTriggerWindow = 500 * time.Millisecond
	MaxTriggerWindow = 10 * time.Second

	// TriggerWindowStep is what windows are multiples of for a process
	// without CAP_SYS_RESOURCE.
	TriggerWindowStep = 2 * time.Second
)

// A Trigger asks the kernel to tell when tasks stalled for at least Stall within
// any Window, at most once a window.
type Trigger struct {
	Full   bool          `json:"full,omitempty"` // all tasks at once, not just some
	Stall  time.Duration `json:"stallNs"`        // more than 0, at most Window
	Window time.Duration `json:"windowNs"`       // 500 ms to 10 s
}

// String is what is written to the pressure file, in microseconds:
// "some 150000 1000000".
func (t Trigger) String() string {
	kind := "some"
	if t.Full {
		kind = "full"
	}
	return fmt.Sprintf("%s %d %d", kind, t.Stall.Microseconds(), t.Window.Microseconds())
}

// Validate returns an [InvalidError] for a trigger that no kernel takes. A
// process without CAP_SYS_RESOURCE is bound further: see [Cgroup.OpenTrigger].
func (t Trigger) Validate() error {
	switch {
	case t.Window < MinTriggerWindow || t.Window > MaxTriggerWindow:
		return &InvalidError{Field: "trigger window", Value: t.Window.String(), Reason: "not within 500ms and 10s"}
	case t.Stall < time.Microsecond:
		return &InvalidError{Field: "trigger stall", Value: t.Stall.String(), Reason: "less than 1µs"}
	case t.Stall > t.Window:
		return &InvalidError{Field: "trigger stall", Value: t.Stall.String(), Reason: "longer than the window of " + t.Window.String()}
	case t.Stall%time.Microsecond != 0 || t.Window%time.Microsecond != 0:
		return &InvalidError{Field: "trigger", Value: t.Stall.String() + " in " + t.Window.String(), Reason: "the kernel counts whole microseconds"}
	}
	return nil
}
