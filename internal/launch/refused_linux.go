// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
)

// restriction is the file with which AppArmor says that it takes the capabilities
// of ordinary users' namespaces away again (Ubuntu 23.10).
const restriction = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"

// explain adds to an error about a new user namespace what it does not say: whose
// rule it is, and what would help.
func (p *Program) explain(err error) error {
	if p.flags&unix.CLONE_NEWUSER == 0 {
		return err
	}
	return refused(err, restriction)
}

func refused(err error, restriction string) error {
	because := func(reason string) error { return &Refused{Err: err, Reason: reason} }
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return because("there are as many namespaces as /proc/sys/user/max_*_namespaces allows, here or further up, or 32 user namespaces inside each other")
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return err
	}
	if text, rerr := os.ReadFile(restriction); rerr == nil && string(bytes.TrimSpace(text)) == "1" {
		return because("AppArmor may restrict the user namespaces of this program: it needs a profile with \"userns,\", or " + restriction + " be 0")
	}
	return err
}

// refusedMap explains why the kernel refuses a map.
func refusedMap(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return &Refused{Err: err, Reason: "without CAP_SETUID and CAP_SETGID over the caller's own user namespace a map is one line, of the caller's own id"}
	case errors.Is(err, unix.EACCES) && dumpable() != 1:
		return &Refused{Err: err, Reason: "this process is not dumpable (PR_SET_DUMPABLE), so its children's files in /proc are root's"}
	}
	return err
}

// call is a system call that failed.
type call struct {
	nr    uint64
	errno unix.Errno
}

// rules are what is behind some errors that name no cause.
var rules = map[call]string{
	{unix.SYS_PRLIMIT64, unix.EPERM}:          "to raise a hard limit takes CAP_SYS_RESOURCE, and that of descriptors ends at /proc/sys/fs/nr_open",
	{unix.SYS_IOCTL, unix.ENOTTY}:             "what it was given as descriptor 0 is no terminal",
	{unix.SYS_SCHED_SETAFFINITY, unix.EINVAL}: "the machine and the group's cpuset have none of these CPUs",
}

// refusedCall explains what a step was refused for.
func refusedCall(nr uint64, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if reason, ok := rules[call{nr, errno}]; ok {
		return &Refused{Err: err, Reason: reason}
	}
	return err
}

// refusedOverlay explains why the kernel refuses an overlay. Debian's and
// Ubuntu's older kernels may have it all the same, so that it is tried.
func (p *Program) refusedOverlay(err error) error {
	if len(p.layers) > 0 && errors.Is(err, unix.EINVAL) {
		return &feature.UnsupportedError{Feature: "overlay of idmapped layers", Since: "Linux 5.19", Reason: "this kernel's overlays take none", Err: err}
	}
	if p.flags&unix.CLONE_NEWUSER == 0 || !errors.Is(err, unix.EPERM) {
		return err
	}
	return &feature.UnsupportedError{
		Feature: "overlay in a user namespace", Since: "Linux 5.11", Reason: "this kernel mounts one for the machine's root only", Err: err,
	}
}

// refusedStub explains why the stub, which is there, is not found.
func refusedStub(err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	return &feature.UnsupportedError{
		Feature: "exec into a pid namespace by an ordinary user",
		Reason:  "this kernel's TOMOYO looks for every program by its name in /proc/self, which is not there for a process outside", Err: err,
	}
}
