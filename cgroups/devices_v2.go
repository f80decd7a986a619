// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/devfilter"
)

// devicesBPF is how a tree shows the BPF programs that stand for v2's devices
// controller: as a file that holds "all" where there is no program, and
// otherwise one line "program ID NAME" for each. Written to it are "all", rules
// in the form of [Devices.String], or lines that were read from it before.
const devicesBPF = "(bpf cgroup_device)"

const programPrefix = "program "

// devicesV2 plans the program. A program's name tells its rules, so the same
// rules are not loaded again. What others have attached is replaced.
func (p *planner) devicesV2(d Devices) error {
	old, err := p.read(ControllerDevices, devicesBPF)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || isAbsent(err) {
		return &UnsupportedError{Feature: "devices", Reason: "this kernel has no device programs (CONFIG_CGROUP_BPF)", Err: err}
	}
	if err != nil {
		return err
	}
	data, want := wordAll, wordAll
	if !d.IsAll() {
		data, want = d.String(), devfilter.Name(d.filter())
	}
	if programName(old) == want {
		return nil
	}
	p.add(Change{
		Controller: ControllerDevices, Knob: "devices", File: devicesBPF, Old: old, New: data,
		canon: programName, want: want,
	})
	return nil
}

// programName is the name of the only program, or the text itself.
func programName(text string) string {
	if f := strings.Fields(text); len(f) == 3 && f[0]+" " == programPrefix {
		return f[2]
	}
	return text
}

// filter is the rules as the BPF program's.
func (d Devices) filter() []devfilter.Rule {
	merged := mergeRules(d.rules)
	rules := make([]devfilter.Rule, len(merged))
	for i, r := range merged {
		rules[i] = devfilter.Rule{
			Block: r.Type == BlockDevice, AnyMajor: r.AnyMajor, AnyMinor: r.AnyMinor, Major: r.Major, Minor: r.Minor,
			Read: r.Access&DeviceRead != 0, Write: r.Access&DeviceWrite != 0, Mknod: r.Access&DeviceMknod != 0,
		}
	}
	return rules
}

// parseDevices reads what [Devices.String] writes.
func parseDevices(text string) (Devices, error) {
	switch text {
	case wordAll:
		return AllDevices(), nil
	case wordNone:
		return AllowDevices(), nil
	}
	var rules []DeviceRule
	for s := range strings.SplitSeq(text, ",") {
		r, err := ParseDeviceRule(s)
		if err != nil {
			return Devices{}, err
		}
		rules = append(rules, r)
	}
	return AllowDevices(rules...), nil
}
