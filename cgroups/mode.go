// SPDX-License-Identifier: Apache-2.0

package cgroups

// Mode is how the hierarchies of a [Root] are laid out.
type Mode uint8

const (
	// Unified is cgroup v2 alone: every controller in one tree.
	Unified Mode = iota + 1
	// Legacy is cgroup v1 alone: controllers in trees of their own. A
	// detached cgroup2 mount serves pressure, kill and freeze.
	Legacy
	// Hybrid is v1 controllers beside a mounted cgroup2 tree, which may have
	// controllers of its own.
	Hybrid
)

// String is "unified", "legacy" or "hybrid".
func (m Mode) String() string {
	switch m {
	case Unified:
		return "unified"
	case Legacy:
		return "legacy"
	case Hybrid:
		return "hybrid"
	}
	return "unknown"
}

// MarshalText is [Mode.String].
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what [Mode.String] writes.
func (m *Mode) UnmarshalText(text []byte) error {
	for _, known := range []Mode{Unified, Legacy, Hybrid} {
		if string(text) == known.String() {
			*m = known
			return nil
		}
	}
	return &InvalidError{Field: "mode", Value: string(text), Reason: "neither unified nor legacy nor hybrid"}
}
