// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// DeviceType is a kind of device node.
type DeviceType byte

// The kinds of device nodes.
const (
	CharDevice  DeviceType = 'c'
	BlockDevice DeviceType = 'b'
)

// DeviceAccess is a set of ways to use a device node.
type DeviceAccess uint8

// The ways to use a device node.
const (
	DeviceRead  DeviceAccess = 1 << iota // r
	DeviceWrite                          // w
	DeviceMknod                          // m: make a node for it
	deviceAll   = DeviceRead | DeviceWrite | DeviceMknod
)

// String is the kernel's letters, "rwm".
func (a DeviceAccess) String() string {
	var b []byte
	for i, c := range []byte("rwm") {
		if a&(1<<i) != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// A DeviceRule allows access to device nodes.
type DeviceRule struct {
	Type     DeviceType
	Major    uint32
	Minor    uint32
	AnyMajor bool // every major number; Major is 0
	AnyMinor bool // every minor number; Minor is 0
	Access   DeviceAccess
}

// ParseDeviceRule reads a rule as v1's devices.allow writes it: "c 1:3 rwm",
// "b 8:* r".
func ParseDeviceRule(s string) (DeviceRule, error) {
	bad := &InvalidError{Field: "devices", Value: s, Reason: "not a rule such as c 1:3 rwm"}
	f := strings.Split(s, " ")
	if len(f) != 3 || len(f[0]) != 1 {
		return DeviceRule{}, bad
	}
	r := DeviceRule{Type: DeviceType(f[0][0])}
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return DeviceRule{}, bad
	}
	for _, n := range []struct {
		text string
		to   *uint32
		any  *bool
	}{{major, &r.Major, &r.AnyMajor}, {minor, &r.Minor, &r.AnyMinor}} {
		if n.text == "*" {
			*n.any = true
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 32)
		if err != nil {
			return DeviceRule{}, bad
		}
		*n.to = uint32(v)
	}
	for _, c := range f[2] {
		i := strings.IndexRune("rwm", c)
		if i < 0 || r.Access&(1<<i) != 0 {
			return DeviceRule{}, bad
		}
		r.Access |= 1 << i
	}
	if err := r.validate(); err != nil {
		return DeviceRule{}, err
	}
	return r, nil
}

// String is the rule in the form of [ParseDeviceRule].
func (r DeviceRule) String() string {
	number := func(n uint32, any bool) string {
		if any {
			return "*"
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	return string(rune(r.Type)) + " " + number(r.Major, r.AnyMajor) + ":" + number(r.Minor, r.AnyMinor) + " " + r.Access.String()
}

// MarshalText is [DeviceRule.String].
func (r DeviceRule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is [ParseDeviceRule].
func (r *DeviceRule) UnmarshalText(text []byte) error {
	v, err := ParseDeviceRule(string(text))
	if err == nil {
		*r = v
	}
	return err
}

func (r DeviceRule) validate() error {
	reason := ""
	switch {
	case r.Type != CharDevice && r.Type != BlockDevice:
		reason = "type is neither c nor b"
	case r.Access == 0 || r.Access&^deviceAll != 0:
		reason = "access is not one or more of r, w, m"
	case r.AnyMajor && r.Major != 0 || r.AnyMinor && r.Minor != 0:
		reason = "both a number and any"
	case r.Major > maxMajor || r.Minor > maxMinor:
		reason = "no such device number"
	default:
		return nil
	}
	return &InvalidError{Field: "devices", Value: r.String(), Reason: reason}
}

// Devices says which device nodes a group may use. The zero Devices leaves
// them as they are.
type Devices struct {
	is    presence
	rules []DeviceRule
}

// AllowDevices denies every device node but those of the rules.
func AllowDevices(rules ...DeviceRule) Devices { return Devices{set, slices.Clone(rules)} }

// AllDevices allows every device node: the kernel's default.
func AllDevices() Devices { return Devices{is: clearing} }

// IsZero reports whether the devices are unset.
func (d Devices) IsZero() bool { return d.is == unset }

// IsAll reports whether every device node is allowed.
func (d Devices) IsAll() bool { return d.is == clearing }

// Rules is what is allowed, if there are rules: a copy.
func (d Devices) Rules() (rules []DeviceRule, ok bool) { return slices.Clone(d.rules), d.is == set }

// Every device, and none, in text.
const (
	wordAll  = "all"
	wordNone = "none"
)

// String is the rules with commas, "none" if there are no rules, "all", or
// nothing when unset.
func (d Devices) String() string {
	switch {
	case d.is == unset:
		return ""
	case d.is == clearing:
		return wordAll
	case len(d.rules) == 0:
		return wordNone
	}
	s := make([]string, len(d.rules))
	for i, r := range d.rules {
		s[i] = r.String()
	}
	return strings.Join(s, ",")
}

// MarshalJSON writes a list of rules, or "all", or null when unset.
func (d Devices) MarshalJSON() ([]byte, error) {
	switch d.is {
	case set:
		if d.rules == nil {
			return []byte("[]"), nil
		}
		return json.Marshal(d.rules)
	case clearing:
		return json.Marshal(wordAll)
	case unset, unlimited:
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads what [Devices.MarshalJSON] writes.
func (d *Devices) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		*d = Devices{}
		return nil
	case bytes.Equal(b, []byte(`"`+wordAll+`"`)):
		*d = AllDevices()
		return nil
	}
	var rules []DeviceRule
	if err := json.Unmarshal(b, &rules); err != nil {
		if errors.Is(err, ErrInvalid) {
			return err
		}
		return &InvalidError{Field: "devices", Value: string(b), Reason: `neither a list of rules nor "all"`}
	}
	*d = Devices{set, rules}
	return nil
}

// DefaultDevices is what container runtimes allow: the nodes that every
// program expects (null, zero, full, random, urandom, tty, console, ptmx and
// the pseudo terminals), and making nodes, which without the right to open
// them are harmless.
func DefaultDevices() Devices {
	char := func(major, minor uint32) DeviceRule {
		return DeviceRule{Type: CharDevice, Major: major, Minor: minor, Access: deviceAll}
	}
	return AllowDevices(
		DeviceRule{Type: CharDevice, AnyMajor: true, AnyMinor: true, Access: DeviceMknod},
		DeviceRule{Type: BlockDevice, AnyMajor: true, AnyMinor: true, Access: DeviceMknod},
		char(1, 3), char(1, 5), char(1, 7), char(1, 8), char(1, 9), // null zero full random urandom
		char(5, 0), char(5, 1), char(5, 2), // tty console ptmx
		DeviceRule{Type: CharDevice, Major: 136, AnyMinor: true, Access: deviceAll}, // pts
	)
}
