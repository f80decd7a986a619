// SPDX-License-Identifier: Apache-2.0

package elastic

import "github.com/caisson-run/caisson/cgroups"

// Class is how the work in a sandbox ranks against that of its neighbours.
type Class uint8

// The classes. Work of a class is squeezed for the sake of every class above
// it, and never for the sake of its own.
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
