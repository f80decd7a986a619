// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"time"
)

// PressureResource is a resource that tasks can stall for.
type PressureResource uint8

// The resources with pressure stall information.
const (
	PressureCPU PressureResource = iota + 1
	PressureMemory
	PressureIO
)

// String is "cpu", "memory" or "io".
func (r PressureResource) String() string {
	switch r {
	case PressureCPU:
		return "cpu"
	case PressureMemory:
		return "memory"
	case PressureIO:
		return "io"
	}
	return "unknown"
}

// MarshalText is [PressureResource.String].
func (r PressureResource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [PressureResource.String] writes.
func (r *PressureResource) UnmarshalText(text []byte) error {
	for known := PressureCPU; known <= PressureIO; known++ {
		if string(text) == known.String() {
			*r = known
			return nil
		}
	}
	return &InvalidError{Field: "pressure resource", Value: string(text), Reason: "neither cpu nor memory nor io"}
}

// Pressure is the pressure stall information of one resource: the share of time
// in which work stood still for want of it.
//
// Cpu pressure counts every wait for a CPU, also one that the group's own
// cpu.max causes: compare [CPUStats].ThrottledTime before calling the machine
// short of CPU.
type Pressure struct {
	Some PressureLine `json:"some,omitzero"` // at least one task stalled
	Full PressureLine `json:"full,omitzero"` // all non-idle tasks stalled at once; absent for cpu before Linux 5.13
}

// IsZero reports whether there is no pressure information.
func (p Pressure) IsZero() bool { return !p.Some.Present && !p.Full.Present }

// PressureLine is one line of a pressure file.
type PressureLine struct {
	// Present is false where the kernel has no such line; the rest is then 0.
	Present bool `json:"-"`

	// Avg10, Avg60 and Avg300 are percent of the time, averaged over so many
	// seconds. The kernel moves them every two seconds.
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`

	// Total is the time stalled since the group was made, exact at each read.
	Total time.Duration `json:"totalNs"`
}

// IsZero reports whether the line is absent.
func (l PressureLine) IsZero() bool { return !l.Present }

// UnmarshalJSON reads a line; one that is there is present.
func (l *PressureLine) UnmarshalJSON(b []byte) error {
	type plain PressureLine
	p := plain{}
	if err := json.Unmarshal(b, &p); err != nil {
		*l = PressureLine{}
		return err
	}
	*l = PressureLine(p)
	l.Present = string(b) != "null"
	return nil
}
