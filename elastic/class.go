// SPDX-License-Identifier: Apache-2.0

package elastic

import "github.com/caisson-run/caisson/cgroups"

// Class is how the work in a sandbox ranks against that of its neighbours.
type Class uint8

// The classes. Work of a class is squeezed for the sake of every class above
// it, and never for the sake of its own. On CPUs and disks the kernel sees to that
// at once: best-effort work runs only while nobody else wants to (cpu.idle, Linux
// 5.15), or with the least weight, and latency-critical work has ten times the
// usual one; in the queue of a link that they share, its packets go by their class. See
// [Class.Limits], [Class.Together] and [Class.NetworkPriority]. How much memory is
// protected, and how much of the network is left, depends on what is in use, so these
// are policies: [MemoryProtect] and [NetworkGuard].
const (
	// Standard work is neither squeezed nor protected.
	Standard Class = iota
	// LatencyCritical work answers somebody who waits: it is protected.
	LatencyCritical
	// BestEffort work takes what is left and may be throttled, reclaimed
	// from, frozen and, in the end, killed.
	BestEffort
)

var classNames = [...]string{"standard", "latency-critical", "best-effort"}

// String is "standard", "latency-critical" or "best-effort".
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// Valid reports whether c is one of the classes.
func (c Class) Valid() bool { return int(c) < len(classNames) }

// MarshalText is [Class.String].
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Together reports whether the sandboxes of the class share one group, which has
// the class's limits, so that everybody else competes with that group and not with
// each of them. Best effort does. Inside, weights rank them among themselves.
//
// It is what keeps the services fast. A task that wakes preempts one of an idle
// group at once, but which group runs then is chosen among those that have had no
// more than their share (EEVDF, since Linux 6.6). Several idle groups on one CPU
// are up to a slice of milliseconds apart in that, their average decides, and a
// service above it waits until the one that is behind has caught up. One idle
// group has nobody to catch up with.
func (c Class) Together() bool { return c == BestEffort }

// Limits are what a sandbox of the class gets where its owner says nothing or, of
// a class that is kept [Class.Together], the group of all its sandboxes. Each
// element is a list of alternatives, the best first: a machine takes the first that
// it has, and goes without if it has none.
func (c Class) Limits() [][]cgroups.Resources {
	weight := func(cpu uint16) cgroups.Resources {
		return cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(cpu)}}
	}
	ioWeight := func(n uint16) cgroups.Resources {
		return cgroups.Resources{IO: cgroups.IO{Weight: cgroups.WeightOf(n)}}
	}
	switch c {
	case LatencyCritical:
		return [][]cgroups.Resources{{weight(1000)}, {ioWeight(1000)}}
	case BestEffort:
		idle := cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}}
		return [][]cgroups.Resources{{idle, weight(1)}, {ioWeight(10)}}
	case Standard:
	}
	return nil
}

// OOMScoreAdj is the oom_score_adj of processes of the class, see proc(5): where
// memory runs out before anybody could do something about it, the kernel takes
// best effort first.
func (c Class) OOMScoreAdj() int {
	if c == BestEffort {
		return 1000
	}
	return 0
}

// NetworkPriority is the priority of what sandboxes of the class send, and whether they
// get one: interactive work goes before standard work, which keeps the kernel's default,
// and bulk after it (TC_PRIO_INTERACTIVE and TC_PRIO_BULK of linux/pkt_sched.h). It counts
// where a queue looks at it. Sandboxes with a network of their own have it at their
// interfaces, the others by their groups.
func (c Class) NetworkPriority() (n uint8, ok bool) {
	switch c {
	case LatencyCritical:
		return 6, true
	case BestEffort:
		return 2, true
	case Standard:
	}
	return 0, false
}

// UnmarshalText reads what [Class.String] writes.
func (c *Class) UnmarshalText(text []byte) error {
	for known, name := range classNames {
		if string(text) == name {
			*c = Class(known)
			return nil
		}
	}
	return &cgroups.InvalidError{Field: "class", Value: string(text), Reason: "neither standard nor latency-critical nor best-effort"}
}
