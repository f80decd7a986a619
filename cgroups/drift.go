// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"strings"
)

// A Drift is a knob that holds something else than it should, since somebody
// else wrote to it.
type Drift struct {
	Knob   string `json:"knob"` // as [Resources.Knobs] calls it
	Path   string `json:"path,omitempty"`
	Wanted string `json:"wanted"`           // what the file should hold
	Found  string `json:"found"`            // what it holds
	Reason string `json:"reason,omitempty"` // why it could not be compared; Wanted is in v2's words then, and Found empty
}

// String reads `memory.max: "1048576" in /sys/..., where "2097152" was set`.
func (d Drift) String() string {
	if d.Reason != "" {
		return fmt.Sprintf("%s: %q was set, and cannot be now: %s", d.Knob, d.Wanted, d.Reason)
	}
	return fmt.Sprintf("%s: %q in %s, where %q was set", d.Knob, d.Found, d.Path, d.Wanted)
}

// Drift says which of the knobs that want names hold something else now. A knob
// with which the group could not be updated to want at present, because the
// controller was taken away or another knob stands against it, has drifted too.
//
// What the kernel made of a value by itself is no drift: numbers rounded to
// pages, CPUs that were unplugged, a partition that lost its CPUs.
//
// It returns an error that matches [ErrGone] if the group was removed.
func (c *Cgroup) Drift(want Resources) ([]Drift, error) {
	var all []Drift
	for name, alone := range want.Knobs {
		if name == "cpu.weight" && want.CPU.Idle == On {
			continue // an idle group has none
		}
		p, err := c.Plan(alone)
		switch {
		case err == nil:
			for _, change := range p.Changes {
				if !change.passing && !c.caused(change, alone) {
					all = append(all, Drift{Knob: name, Path: change.Path, Wanted: strings.TrimSpace(change.New), Found: change.Old})
				}
			}
		case errors.Is(err, ErrNotSupported), errors.Is(err, ErrInvalid), errors.Is(err, ErrInUse):
			all = append(all, Drift{Knob: name, Wanted: alone.text(), Reason: reasonOf(err)})
		default:
			return nil, err
		}
	}
	if len(all) > 0 && c.main().gone() { // its files are gone with it
		return nil, fmt.Errorf("drift of cgroup %s: %w", c.path, ErrGone)
	}
	return all, nil
}

// reasonOf is what an error says about its cause, without what was tried.
func reasonOf(err error) string {
	var invalid *InvalidError
	var unsupported *UnsupportedError
	switch {
	case errors.As(err, &invalid):
		return invalid.Reason
	case errors.As(err, &unsupported) && unsupported.Reason != "":
		return unsupported.Reason
	}
	return err.Error()
}

// caused reports whether the kernel itself made the difference that a change
// would take away.
func (c *Cgroup) caused(change Change, want Resources) bool {
	switch change.Knob {
	case partitionFile:
		word, _, invalid := strings.Cut(change.Old, " ")
		return invalid && word == change.New
	case "cpuset.cpus":
		if want.CPUSet.CPUs.IsDefault() {
			return change.File == change.Knob && c.onV1(ControllerCPUSet) // the parent's have changed
		}
		return unplugged(change, "/sys/devices/system/cpu/online")
	case "cpuset.mems":
		if want.CPUSet.Mems.IsDefault() {
			return c.onV1(ControllerCPUSet)
		}
		return unplugged(change, "/sys/devices/system/node/has_memory")
	}
	return false
}

func (c *Cgroup) onV1(ctl Controller) bool {
	n := c.node(ctl)
	return n != nil && !n.in.v2
}

// unplugged reports whether what is missing in a set is missing in the machine:
// v1 takes it out of all groups, for good.
func unplugged(change Change, online string) bool {
	var found Set // nothing, if the machine has nothing of it
	var err1 error
	if change.Old != "" {
		found, err1 = ParseSet(change.Old)
	}
	wanted, err2 := ParseSet(strings.TrimSpace(change.New))
	here, err3 := ParseSet(newMachineFile(online).text)
	if errors.Join(err1, err2, err3) != nil {
		return false
	}
	for n := range found.Each {
		if !wanted.Contains(n) {
			return false
		}
	}
	for n := range wanted.Each {
		if !found.Contains(n) && here.Contains(n) {
			return false
		}
	}
	return true
}

// text is the value of the one knob that r names.
func (r Resources) text() string {
	for _, v := range []fmt.Stringer{
		r.CPU.Weight, r.CPU.Max, r.CPU.Burst, r.CPU.Idle, r.CPUSet.CPUs, r.CPUSet.Mems, r.CPUSet.Partition,
		r.Memory.Max, r.Memory.High, r.Memory.Low, r.Memory.Min, r.Memory.Swap, r.Memory.SwapHigh, r.Memory.OOMGroup,
		r.PIDs.Max, r.IO.Weight, r.Devices,
	} {
		if s := v.String(); s != "" {
			return s
		}
	}
	for _, d := range r.IO.Devices {
		for _, v := range []fmt.Stringer{d.Weight, d.ReadBytes, d.WriteBytes, d.ReadOps, d.WriteOps, d.Latency} {
			if s := v.String(); s != "" {
				return s
			}
		}
	}
	for _, h := range r.HugeTLB {
		return h.Max.String() + h.Reserved.String()
	}
	for _, d := range r.RDMA {
		return d.Handles.String() + d.Objects.String()
	}
	for _, m := range r.Misc {
		return m.Max.String()
	}
	return ""
}
