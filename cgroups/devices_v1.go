// SPDX-License-Identifier: Apache-2.0

package cgroups

import "strings"

const (
	devicesList  = "devices.list"
	devicesAllow = "devices.allow"
	devicesDeny  = "devices.deny"
	everyDevice  = "a *:* rwm"
)

// devices plans which device nodes the group may use.
func (p *planner) devices(d Devices) error {
	if d.IsZero() {
		return nil
	}
	v, err := p.under(ControllerDevices)
	if err != nil {
		return err
	}
	if v == 1 {
		return p.devicesV1(d)
	}
	return p.devicesV2(d)
}

// devicesV1 moves the list with as few writes as can be, what is allowed first,
// so that no rule that stays is ever missing. Only the step from "everything"
// to a list passes through "nothing": the kernel has no other way.
func (p *planner) devicesV1(d Devices) error {
	text, err := p.read(ControllerDevices, devicesList)
	if err != nil {
		return err
	}
	now, all := parseDevicesList(text)
	if d.IsAll() {
		if !all {
			undo := []write{{ctl: ControllerDevices, file: devicesDeny, data: everyDevice}}
			for _, r := range now {
				undo = append(undo, write{ctl: ControllerDevices, file: devicesAllow, data: r.String()})
			}
			p.addDevice(devicesAllow, strings.TrimSpace(text), everyDevice, "", undo, isEveryDevice, "all")
		}
		return nil
	}
	if all {
		undo := []write{{ctl: ControllerDevices, file: devicesAllow, data: everyDevice}}
		p.addDevice(devicesDeny, everyDevice, everyDevice, "the list begins empty: cgroup v1 has no other way to it", undo, isEveryDevice, "not all")
		now = nil
	}
	want := mergeRules(d.rules)
	for _, r := range want {
		if more := r.Access &^ accessOf(now, r); more != 0 {
			r.Access = more
			p.moveRule(devicesAllow, devicesDeny, r)
		}
	}
	for _, r := range now {
		if less := r.Access &^ accessOf(want, r); less != 0 {
			r.Access = less
			p.moveRule(devicesDeny, devicesAllow, r)
		}
	}
	return nil
}

// moveRule allows or denies the rule's access.
func (p *planner) moveRule(file, back string, r DeviceRule) {
	undo := []write{{ctl: ControllerDevices, file: back, data: r.String()}}
	want, old := "allowed", ""
	if file == devicesDeny {
		want, old = "denied", r.String()
	}
	p.addDevice(file, old, r.String(), "", undo, func(text string) string {
		list, all := parseDevicesList(text)
		switch has := accessOf(list, r) & r.Access; {
		case all || has == r.Access:
			return "allowed"
		case has == 0:
			return "denied"
		}
		return "in part"
	}, want)
}

func (p *planner) addDevice(file, old, data, why string, undo []write, canon func(string) string, want string) {
	p.add(Change{
		Controller: ControllerDevices, Knob: "devices", File: file, Old: old, New: data, Why: why,
		undo: undo, check: devicesList, canon: canon, want: want,
	})
}

func isEveryDevice(text string) string {
	if _, all := parseDevicesList(text); all {
		return "all"
	}
	return "not all"
}

// parseDevicesList reads devices.list.
func parseDevicesList(text string) (rules []DeviceRule, all bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == everyDevice {
			return nil, true
		}
		if r, err := ParseDeviceRule(line); err == nil {
			rules = append(rules, r)
		}
	}
	return rules, false
}

// node is the rule without its access: what the kernel keeps one entry for.
func (r DeviceRule) node() DeviceRule {
	r.Access = 0
	return r
}

// accessOf is what the rules allow on exactly r's nodes.
func accessOf(rules []DeviceRule, r DeviceRule) (a DeviceAccess) {
	for _, x := range rules {
		if x.node() == r.node() {
			a |= x.Access
		}
	}
	return a
}

// mergeRules joins rules on the same nodes, in the order of their first.
func mergeRules(rules []DeviceRule) []DeviceRule {
	var out []DeviceRule
	for _, r := range rules {
		if accessOf(out, r) == 0 {
			r.Access = accessOf(rules, r)
			out = append(out, r)
		}
	}
	return out
}
