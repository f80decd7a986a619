// SPDX-License-Identifier: Apache-2.0

package cgroups

// EventKind is a kernel file that says when something happened to a group.
type EventKind uint8

const (
	// EventMemory is memory.events: an out-of-memory kill, a limit or a
	// protection that was hit, here or in a descendant. v1 tells only of
	// running out of memory (memory.oom_control), and a moment before the
	// kill is counted.
	EventMemory EventKind = iota + 1
	// EventSwap is memory.swap.events. v2 only.
	EventSwap
	// EventPIDs is pids.events: a fork that pids.max refused. On v1 since
	// Linux 6.11 the kernel counts it but no longer tells ("cgroup/pids: Add
	// pids.events.local" notifies a file that v1 does not have), so look at
	// the counter now and then.
	EventPIDs
	// EventState is cgroup.events: populated and frozen. It comes from the
	// unified tree in every mode.
	EventState
)

// String is the kind's v2 file: "memory.events".
func (k EventKind) String() string {
	switch k {
	case EventMemory:
		return "memory.events"
	case EventSwap:
		return "memory.swap.events"
	case EventPIDs:
		return "pids.events"
	case EventState:
		return "cgroup.events"
	}
	return "unknown"
}

// MarshalText is [EventKind.String].
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what [EventKind.String] writes.
func (k *EventKind) UnmarshalText(text []byte) error {
	for known := EventMemory; known <= EventState; known++ {
		if string(text) == known.String() {
			*k = known
			return nil
		}
	}
	return &InvalidError{Field: "event kind", Value: string(text), Reason: "not the name of a file of events"}
}

// Events are the counters behind all kinds of events. They only grow, but for
// Populated and Frozen. What this kernel or mode lacks is absent.
type Events struct {
	Memory MemoryEvents `json:"memory,omitzero"`
	Swap   SwapEvents   `json:"swap,omitzero"`
	PIDs   PIDsEvents   `json:"pids,omitzero"`

	// Populated says whether a process lives in the group or in a
	// descendant, Frozen whether all of them are frozen.
	Populated Reading[bool] `json:"populated,omitzero"`
	Frozen    Reading[bool] `json:"frozen,omitzero"`
}

// MemoryEvents is memory.events, descendants included. On v1, Max is
// memory.failcnt and memory.memsw.failcnt together, and OOMKill is from
// memory.oom_control (Linux 4.13), all without descendants.
type MemoryEvents struct {
	Low          Reading[uint64] `json:"low,omitzero"`          // reclaimed although below memory.low
	High         Reading[uint64] `json:"high,omitzero"`         // throttled above memory.high
	Max          Reading[uint64] `json:"max,omitzero"`          // stopped at memory.max
	OOM          Reading[uint64] `json:"oom,omitzero"`          // allocations about to fail
	OOMKill      Reading[uint64] `json:"oomKill,omitzero"`      // processes killed
	OOMGroupKill Reading[uint64] `json:"oomGroupKill,omitzero"` // times the group was killed whole; Linux 5.17
}

// SwapEvents is memory.swap.events, descendants included. v2 only.
type SwapEvents struct {
	High Reading[uint64] `json:"high,omitzero"` // Linux 5.8
	Max  Reading[uint64] `json:"max,omitzero"`  // refused at memory.swap.max
	Fail Reading[uint64] `json:"fail,omitzero"` // refused for any reason
}

// PIDsEvents is pids.events.
type PIDsEvents struct {
	// Max counts forks that were refused because of this group's limit, and,
	// on v2 since Linux 6.11, the descendants' too. On v1 and before, it
	// counts those of this group's processes, whoever's limit it was.
	Max Reading[uint64] `json:"max,omitzero"`
}
