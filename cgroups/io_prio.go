// SPDX-License-Identifier: Apache-2.0

package cgroups

import "strconv"

// prioKnob is the knob, and v2's file.
const (
	prioKnob   = "io.prio.class"
	prioFileV1 = "blkio.prio.class"
)

// IOPriority is what becomes of the I/O priority classes of a group's requests.
// The zero IOPriority leaves the knob as it is.
type IOPriority uint8

// The policies of io.prio.class.
const (
	IOPriorityKeep         IOPriority = iota
	IOPriorityNoChange                // as each process has it; the kernel's default
	IOPriorityPromoteToRT             // real time for all. Linux 6.5
	IOPriorityRestrictToBE            // best effort for what is real time or has no class
	IOPriorityIdle                    // idle for all: served when nobody else wants the disk
	IOPriorityNoneToRT                // real time for what has no class; since Linux 6.5 the same as promote-to-rt
)

// String is the kernel's word, or nothing when unset.
func (p IOPriority) String() string {
	switch p {
	case IOPriorityKeep:
		return ""
	case IOPriorityNoChange:
		return "no-change"
	case IOPriorityPromoteToRT:
		return "promote-to-rt"
	case IOPriorityRestrictToBE:
		return "restrict-to-be"
	case IOPriorityIdle:
		return "idle"
	case IOPriorityNoneToRT:
		return "none-to-rt"
	}
	return "priority(" + strconv.Itoa(int(p)) + ")"
}

// MarshalText is [IOPriority.String].
func (p IOPriority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what [IOPriority.String] writes.
func (p *IOPriority) UnmarshalText(text []byte) error {
	for v := IOPriorityKeep; v <= IOPriorityNoneToRT; v++ {
		if v.String() == string(text) {
			*p = v
			return nil
		}
	}
	return &InvalidError{Field: prioKnob, Value: string(text), Reason: "neither no-change nor promote-to-rt nor restrict-to-be nor idle nor none-to-rt"}
}

// ioPriority plans the group's policy.
func (p *planner) ioPriority(version int, to IOPriority) error {
	if to == IOPriorityKeep {
		return nil
	}
	file := prioKnob
	if version == 1 {
		file = prioFileV1
	}
	old, err := p.knob(ControllerIO, prioKnob, file)
	if err != nil || old == to.String() {
		return err
	}
	p.add(Change{Controller: ControllerIO, Knob: prioKnob, File: file, Old: old, New: to.String()})
	return nil
}
