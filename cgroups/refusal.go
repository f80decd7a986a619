// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// refusal says more about a refusal than its errno.
func refusal(c *Change, err error) error {
	var left *notTried
	if errors.As(err, &left) {
		return left.error
	}
	is := func(errno syscall.Errno) bool { return errors.Is(err, errno) }
	hint := ""
	switch {
	case is(syscall.EBUSY) && c.File == limitV1:
		return inUse(c, usageV1, err)
	case is(syscall.EBUSY) && c.File == memswV1:
		return inUse(c, memswUsageV1, err)
	case is(syscall.EBUSY) && c.Controller == ControllerHugeTLB:
		return inUse(c, strings.NewReplacer(".max", ".current", ".limit_in_bytes", ".usage_in_bytes").Replace(c.File), err)
	case is(syscall.EINVAL) && (c.File == quotaV1 || c.File == periodV1):
		hint = "on cgroup v1 the share of CPU may not be above the parent's nor below a child's" + sharesAround(c)
	case is(syscall.EACCES) && c.Controller == ControllerCPUSet:
		hint = "not a subset of the parent's"
		if text, err := c.in.read(c.Controller, "../"+c.File); err == nil {
			hint += ", " + text
		}
	case is(syscall.EBUSY) && c.Controller == ControllerCPUSet:
		hint = "a child group has more" + childrenWithMore(c)
	case (is(syscall.ERANGE) || is(syscall.EINVAL)) && (c.Knob == "cpuset.cpus" || c.Knob == "cpuset.mems"):
		hint = "the machine may not have them"
	case is(syscall.ENOSPC) && c.Controller == ControllerCPUSet:
		hint = "processes in the group would have none"
	case is(syscall.ENODEV) && c.Controller == ControllerIO && !errors.Is(err, ErrGone):
		return noDevice(err)
	case is(syscall.ENODEV) && c.Controller == ControllerRDMA && !errors.Is(err, ErrGone):
		hint = "there is no such device"
	case is(syscall.EOPNOTSUPP) && c.Knob == "io.weight":
		return &UnsupportedError{Feature: c.Knob, Reason: "io.cost is not enabled on the device, and it does not use the bfq scheduler", Err: err}
	case is(syscall.EPERM) && c.File == devicesBPF:
		hint = "a device program needs CAP_BPF or CAP_SYS_ADMIN, and before Linux 5.11 room in RLIMIT_MEMLOCK"
	case is(syscall.EPERM) && c.Controller == ControllerDevices:
		hint = "the parent group does not allow it"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}

// childrenWithMore names the children that stand against a smaller list.
func childrenWithMore(c *Change) string {
	want, more := spansOf(c.want), ""
	for _, name := range c.in.below(c.Controller) {
		if text, err := c.in.read(c.Controller, name+"/"+c.File); err == nil && !want.holds(spansOf(text)) {
			more += "; " + name + " has " + text
		}
	}
	return more
}

// sharesAround names the shares of CPU that a group's has to lie between.
func sharesAround(c *Change) string {
	around := ""
	share := func(whose, dir string) {
		quota, err1 := c.in.read(c.Controller, dir+quotaV1)
		period, err2 := c.in.read(c.Controller, dir+periodV1)
		if err1 == nil && err2 == nil && quota != "-1" {
			around += "; " + whose + " has " + quota + "/" + period
		}
	}
	share("the parent", "../")
	for _, name := range c.in.below(c.Controller) {
		share(name, name+"/")
	}
	return around
}

func inUse(c *Change, file string, err error) error {
	limit, _ := parseAmount(c.New)
	text, e := c.in.read(c.Controller, file)
	if e != nil {
		return err
	}
	usage, e := parseAmount(text)
	if e != nil {
		return err
	}
	return &InUseError{Knob: c.Knob, Limit: limit, Usage: usage, Err: err}
}
