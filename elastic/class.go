// SPDX-License-Identifier: Apache-2.0

package elastic

import "github.com/caisson-run/caisson/cgroups"

// Class is how the work in a sandbox ranks against that of its neighbours.
type Class uint8

// The classes. Work of a class is squeezed for the sake of every class above
// it, and never for the sake of its own. On CPUs and disks the kernel sees to that
// at once: best-effort work runs only while nobody else wants to (cpu.idle, Linux
// 5.15), or with the least weight, and latency-critical work has ten times the
// usual one. See [Class.Limits].
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

// Limits are what a sandbox of the class gets where its owner says nothing. Each
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
