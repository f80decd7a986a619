// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/devfilter"
)

const (
	deviceList = "devices.list"
	deviceDeny = "devices.deny"
	anyDevice  = "a *:* rwm"

	// bpfDevices is how package cgroups reads and writes the device programs of
	// a v2 group: "all", or a line for each program, or the rules of a new one.
	bpfDevices = "(bpf cgroup_device)"
)

// device is an entry of devices.list: "c 1:3" and "rwm".
type device struct {
	node   string
	access string
}

// parseDevice reads "c 1:3 rwm".
func parseDevice(text string) (d device, ok bool) {
	f := strings.Fields(text)
	if len(f) != 3 || f[0] != "c" && f[0] != "b" || strings.Trim(f[2], "rwm") != "" {
		return d, false
	}
	major, minor, ok := strings.Cut(f[1], ":")
	for _, n := range []string{major, minor} {
		if _, err := strconv.ParseUint(n, 10, 32); err != nil && n != "*" {
			return d, false
		}
	}
	return device{f[0] + " " + f[1], f[2]}, ok
}

func parseDevices(text string) (list []device) {
	for l := range strings.Lines(text) {
		if d, ok := parseDevice(l); ok {
			list = append(list, d)
		}
	}
	return list
}

func formatDevices(list []device) string {
	var lines []string
	for _, d := range list {
		lines = append(lines, d.node+" "+d.access)
	}
	return strings.Join(lines, "\n")
}

// change adds or takes access of the entry for exactly the node.
func change(list []device, d device, add bool) []device {
	var out []device
	found := false
	for _, x := range list {
		if x.node == d.node {
			found = true
			access := ""
			for _, c := range "rwm" {
				has, named := strings.ContainsRune(x.access, c), strings.ContainsRune(d.access, c)
				if add && (has || named) || !add && has && !named {
					access += string(c)
				}
			}
			if x.access = access; access == "" {
				continue
			}
		}
		out = append(out, x)
	}
	if add && !found {
		out = append(out, d)
	}
	return out
}

// covers reports whether an entry of the list has all of d.
func covers(list []device, d device) bool {
	for _, x := range list {
		xKind, xNumbers, _ := strings.Cut(x.node, " ")
		dKind, dNumbers, _ := strings.Cut(d.node, " ")
		xMajor, xMinor, _ := strings.Cut(xNumbers, ":")
		dMajor, dMinor, _ := strings.Cut(dNumbers, ":")
		if xKind == dKind && (xMajor == "*" || xMajor == dMajor) && (xMinor == "*" || xMinor == dMinor) && strings.Trim(d.access, x.access) == "" {
			return true
		}
	}
	return false
}

// devicesKinds are the files of v1's devices (security/device_cgroup.c).
func (t *tree) devicesKinds() []kind {
	return []kind{
		{name: deviceList, ctl: devices, init: anyDevice},
		{name: "devices.allow", ctl: devices, blind: true, log: true, store: storeAllow},
		{name: deviceDeny, ctl: devices, blind: true, log: true, store: storeDeny},
	}
}

func storeAllow(g *group, data string) error {
	data = strip(data)
	if strings.HasPrefix(data, "a") {
		switch {
		case len(g.children) > 0:
			return syscall.EINVAL
		case !g.isTop() && g.parent.text(deviceList) != anyDevice:
			return syscall.EPERM
		}
		g.setText(deviceList, anyDevice)
		g.setText(deviceDeny, "")
		return nil
	}
	d, ok := parseDevice(data)
	if !ok {
		return syscall.EINVAL
	}
	if g.text(deviceList) == anyDevice {
		g.setText(deviceDeny, formatDevices(change(parseDevices(g.text(deviceDeny)), d, false)))
		return nil
	}
	if !g.isTop() && g.parent.text(deviceList) != anyDevice && !covers(parseDevices(g.parent.text(deviceList)), d) {
		return syscall.EPERM
	}
	g.setText(deviceList, formatDevices(change(parseDevices(g.text(deviceList)), d, true)))
	return nil
}

func storeDeny(g *group, data string) error {
	data = strip(data)
	if strings.HasPrefix(data, "a") {
		if len(g.children) > 0 {
			return syscall.EINVAL
		}
		g.setText(deviceList, "")
		return nil
	}
	d, ok := parseDevice(data)
	if !ok {
		return syscall.EINVAL
	}
	if g.text(deviceList) == anyDevice {
		g.setText(deviceDeny, formatDevices(change(parseDevices(g.text(deviceDeny)), d, true)))
	} else {
		g.setText(deviceList, formatDevices(change(parseDevices(g.text(deviceList)), d, false)))
	}
	g.each(func(b *group) {
		if b == g || b.text(deviceList) == anyDevice || b.parent.text(deviceList) == anyDevice {
			return
		}
		var kept []device
		above := parseDevices(b.parent.text(deviceList))
		for _, x := range change(parseDevices(b.text(deviceList)), d, false) {
			if covers(above, x) {
				kept = append(kept, x)
			}
		}
		b.setText(deviceList, formatDevices(kept))
	})
	return nil
}

// storeProgram attaches programs, as package cgroups asks for them.
func storeProgram(g *group, data string) error {
	if data == "all" || strings.HasPrefix(data, "program ") {
		g.setText(bpfDevices, data)
		return nil
	}
	var merged []device
	if data != "none" {
		for text := range strings.SplitSeq(data, ",") {
			d, ok := parseDevice(text)
			if !ok {
				return syscall.EINVAL
			}
			merged = change(merged, d, true)
		}
	}
	rules := make([]devfilter.Rule, len(merged))
	for i, d := range merged {
		kind, numbers, _ := strings.Cut(d.node, " ")
		major, minor, _ := strings.Cut(numbers, ":")
		number := func(s string) uint32 {
			n, _ := strconv.ParseUint(s, 10, 32)
			return uint32(n)
		}
		rules[i] = devfilter.Rule{
			Block: kind == "b", AnyMajor: major == "*", AnyMinor: minor == "*", Major: number(major), Minor: number(minor),
			Read: strings.Contains(d.access, "r"), Write: strings.Contains(d.access, "w"), Mknod: strings.Contains(d.access, "m"),
		}
	}
	g.m.program++
	g.setText(bpfDevices, "program "+strconv.Itoa(g.m.program)+" "+devfilter.Name(rules))
	return nil
}
