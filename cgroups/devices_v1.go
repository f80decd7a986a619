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
			c := Change{File: devicesAllow, Old: text, New: everyDevice, canon: canonDevices, was: canonDevices(text), want: wordAll}
			c.undo = []write{{file: devicesDeny, data: everyDevice}}
			for _, r := range now {
				c.undo = append(c.undo, write{file: devicesAllow, data: r.String()})
			}
			p.addDevice(c)
		}
		return nil
	}
	if all {
		p.addDevice(Change{
			File: devicesDeny, Old: everyDevice, New: everyDevice, Why: "the list begins empty: cgroup v1 has no other way to it",
			undo: []write{{file: devicesAllow, data: everyDevice}}, canon: isEveryDevice, was: wordAll, want: "not all", stage: shrink,
		})
		now = nil
	}
	want := mergeRules(d.rules)
	for _, r := range want {
		if more := r.Access &^ accessOf(now, r); more != 0 {
			r.Access = more
			p.moveRule(r, true, all)
		}
	}
	for _, r := range now {
		if less := r.Access &^ accessOf(want, r); less != 0 {
			r.Access = less
			p.moveRule(r, false, all)
		}
	}
	return nil
}

// moveRule allows or denies the rule's access. The list began as everything if
// all, and then is a list only once it was denied, so its rules come after that.
func (p *planner) moveRule(r DeviceRule, allow, all bool) {
	const allowed, denied = "allowed", "denied"
	c := Change{New: r.String(), line: r.String()}
	if allow {
		c.File, c.was, c.want = devicesAllow, denied, allowed
		c.undo = []write{{file: devicesDeny, data: c.New}}
	} else {
		c.File, c.was, c.want, c.stage = devicesDeny, allowed, denied, shrink
		c.Old, c.undo = c.New, []write{{file: devicesAllow, data: c.New}}
	}
	if all {
		c.was, c.stage = allowed, shrink
	}
	c.canon = func(text string) string {
		list, all := parseDevicesList(text)
		switch has := accessOf(list, r) & r.Access; {
		case all || has == r.Access:
			return allowed
		case has == 0:
			return denied
		}
		return "in part"
	}
	p.addDevice(c)
}

func (p *planner) addDevice(c Change) {
	c.Controller, c.Knob, c.check = ControllerDevices, "devices", devicesList
	p.add(c)
}

// canonDevices is the list in one of the orders that it may have.
func canonDevices(text string) string {
	rules, all := parseDevicesList(text)
	if all {
		return wordAll
	}
	return Devices{set, Resources{Devices: Devices{set, rules}}.sorted().Devices.rules}.String()
}

func isEveryDevice(text string) string {
	if _, all := parseDevicesList(text); all {
		return wordAll
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
