// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math/bits"
	"strings"
)

// Controller is one kernel resource controller, by its v2 name.
type Controller uint8

// The controllers, in the order in which this package visits them.
const (
	ControllerCPU     Controller = iota // cpu; on v1 cpu and, for usage, cpuacct
	ControllerCPUAcct                   // cpuacct, v1 only: cpu has it on v2
	ControllerCPUSet                    // cpuset
	ControllerMemory                    // memory
	ControllerIO                        // io; blkio on v1
	ControllerPIDs                      // pids
	ControllerHugeTLB                   // hugetlb
	ControllerRDMA                      // rdma
	ControllerMisc                      // misc
	ControllerDevices                   // devices; a BPF program on v2
	ControllerFreezer                   // freezer, v1 only: every v2 group has cgroup.freeze
	numControllers
)

var controllerNames = [numControllers]string{
	"cpu", "cpuacct", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "devices", "freezer",
}

// String is the v2 name: "cpu", "io". v1's "blkio" is "io".
func (c Controller) String() string {
	if c >= numControllers {
		return "unknown"
	}
	return controllerNames[c]
}

// MarshalText is [Controller.String].
func (c Controller) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what [Controller.String] writes.
func (c *Controller) UnmarshalText(text []byte) error {
	known, ok := parseController(string(text))
	if !ok {
		return &InvalidError{Field: "controller", Value: string(text), Reason: "no such controller"}
	}
	*c = known
	return nil
}

// parseController knows the names of both versions.
func parseController(name string) (Controller, bool) {
	if name == "blkio" {
		return ControllerIO, true
	}
	for i, n := range controllerNames {
		if n == name {
			return Controller(i), true
		}
	}
	return 0, false
}

// Controllers is a set of controllers.
type Controllers uint16

// ControllersOf is the set of the given controllers.
func ControllersOf(cs ...Controller) Controllers {
	var s Controllers
	for _, c := range cs {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in the set.
func (s Controllers) Has(c Controller) bool { return s&(1<<c) != 0 }

// first is the member that List has first; the set must not be empty.
func (s Controllers) first() Controller { return Controller(bits.TrailingZeros16(uint16(s))) }

// List is the set's members, in the order of the constants.
func (s Controllers) List() []Controller {
	out := make([]Controller, 0, bits.OnesCount16(uint16(s)))
	for c := range numControllers {
		if s.Has(c) {
			out = append(out, c)
		}
	}
	return out
}

// String is the members' names with commas.
func (s Controllers) String() string {
	var b strings.Builder
	for _, c := range s.List() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.String())
	}
	return b.String()
}

// MarshalText is [Controllers.String].
func (s Controllers) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [Controllers.String] writes.
func (s *Controllers) UnmarshalText(text []byte) error {
	var set Controllers
	if len(text) > 0 {
		for name := range strings.SplitSeq(string(text), ",") {
			var c Controller
			if err := c.UnmarshalText([]byte(name)); err != nil {
				return err
			}
			set |= ControllersOf(c)
		}
	}
	*s = set
	return nil
}
