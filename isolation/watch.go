// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"iter"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// Event is something that happened to a sandbox: one of the types below, or a
// [Drift], as a value. Each prints as one line.
type Event interface {
	// When is the time at which it was noticed.
	When() time.Time
}

// The events of a sandbox's group.
type (
	// Pressure: the group lost more time for lack of a resource than a
	// threshold allows, or no longer does.
	Pressure = elastic.Pressure
	// OOM: the kernel found no memory within the group's limit, or killed.
	OOM = elastic.OOM
	// LimitHit: the group ran against one of its limits.
	LimitHit = elastic.LimitHit
	// Frozen: all its processes stand still, or go on.
	Frozen = elastic.Frozen
	// Failed: one thing cannot be watched any more; the rest goes on.
	Failed = elastic.Failed
	// Lost: the consumer was too slow for this many events.
	Lost = elastic.Lost
	// Gone: the group was removed by somebody else. It is the last event.
	Gone = elastic.Gone
)

// Exited is the last event of a sandbox: its first process has ended.
type Exited struct {
	Time   time.Time  `json:"time"`
	Status ExitStatus `json:"exit"`
}

// When is the time at which the end was noticed.
func (e Exited) When() time.Time { return e.Time }

// String is "the program ended: exit status 7".
func (e Exited) String() string { return "the program ended: " + e.Status.String() }

// DefaultThresholds are those of a Watch that names none: a tenth of two
// seconds lost by some process to CPU or memory, a quarter to IO. Two-second
// windows are what the kernel grants to everybody.
func DefaultThresholds() []elastic.Threshold {
	const window = 2 * time.Second
	return []elastic.Threshold{
		{Resource: cgroups.PressureCPU, Stall: window / 10, Window: window},
		{Resource: cgroups.PressureMemory, Stall: window / 10, Window: window},
		{Resource: cgroups.PressureIO, Stall: window / 4, Window: window},
	}
}

// failed is a sequence of one error.
func failed(err error) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(nil, err) }
}
