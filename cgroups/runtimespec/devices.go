// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/cgroups"
)

const everyAccess = cgroups.DeviceRead | cgroups.DeviceWrite | cgroups.DeviceMknod

// devices plays the rules, in order, on a group that may use nothing, which is
// where runtimes begin.
func (c *conversion) devices(rules []specs.LinuxDeviceCgroup) {
	if len(rules) == 0 {
		return
	}
	var allowed []cgroups.DeviceRule
	all := false
	for i, s := range rules {
		field := fmt.Sprintf("devices[%d]", i)
		if s.Type == "" || s.Type == "a" {
			if s.Major != nil && *s.Major >= 0 || s.Minor != nil && *s.Minor >= 0 || s.Access != "" && accessOf(s.Access) != everyAccess {
				c.bad(field, ruleText(s), "a rule for all types is one for all devices")
				return
			}
			allowed, all = nil, s.Allow
			continue
		}
		r, ok := ruleOf(s)
		switch {
		case !ok:
			c.bad(field, ruleText(s), "not a rule such as c 1:3 rwm")
			return
		case s.Allow && all: // it is allowed already
		case s.Allow:
			allowed = append(allowed, r)
		case all:
			c.bad(field, ruleText(s), "all but a few cannot be said: deny all, then allow")
			return
		default:
			if allowed, ok = without(allowed, r); !ok {
				c.bad(field, ruleText(s), "it takes away part of an earlier rule: name what is left instead")
				return
			}
		}
	}
	if c.r.Devices = cgroups.AllowDevices(allowed...); all {
		c.r.Devices = cgroups.AllDevices()
	}
}

// without takes the accesses of r from the rules; ok is false if that cannot be
// said by rules.
func without(rules []cgroups.DeviceRule, r cgroups.DeviceRule) (left []cgroups.DeviceRule, ok bool) {
	for _, have := range rules {
		covers := have.Type == r.Type && (r.AnyMajor || !have.AnyMajor && have.Major == r.Major) &&
			(r.AnyMinor || !have.AnyMinor && have.Minor == r.Minor)
		overlaps := have.Type == r.Type && (r.AnyMajor || have.AnyMajor || have.Major == r.Major) &&
			(r.AnyMinor || have.AnyMinor || have.Minor == r.Minor)
		switch {
		case covers:
			if have.Access &^= r.Access; have.Access != 0 {
				left = append(left, have)
			}
		case overlaps && have.Access&r.Access != 0:
			return nil, false
		default:
			left = append(left, have)
		}
	}
	return left, true
}

func ruleOf(s specs.LinuxDeviceCgroup) (cgroups.DeviceRule, bool) {
	r, err := cgroups.ParseDeviceRule(ruleText(s))
	return r, err == nil
}

func ruleText(s specs.LinuxDeviceCgroup) string {
	access := s.Access
	if access == "" {
		access = everyAccess.String()
	}
	return s.Type + " " + number(s.Major) + ":" + number(s.Minor) + " " + access
}

// number writes a device number; nil and -1 are any.
func number(n *int64) string {
	if n == nil || *n == -1 {
		return "*"
	}
	return fmt.Sprint(*n)
}

// accessOf is 0 if s is not made of distinct letters r, w and m.
func accessOf(s string) (a cgroups.DeviceAccess) {
	for _, c := range s {
		i := strings.IndexRune("rwm", c)
		if i < 0 || a&(1<<i) != 0 {
			return 0
		}
		a |= 1 << i
	}
	return a
}

func devicesToSpec(d cgroups.Devices) []specs.LinuxDeviceCgroup {
	if d.IsZero() {
		return nil
	}
	rules, some := d.Rules()
	list := []specs.LinuxDeviceCgroup{{Allow: !some, Access: everyAccess.String()}}
	for _, r := range rules {
		s := specs.LinuxDeviceCgroup{Allow: true, Type: string(rune(r.Type)), Access: r.Access.String()}
		if !r.AnyMajor {
			s.Major = ref(int64(r.Major))
		}
		if !r.AnyMinor {
			s.Minor = ref(int64(r.Minor))
		}
		list = append(list, s)
	}
	return list
}

func ref[T any](v T) *T { return &v }
