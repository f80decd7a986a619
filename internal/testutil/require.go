// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Requirement is something that a test needs of its environment. Its text is
// the class of the skip when it is missing.
type Requirement string

// What tests ask for. [Cgroup1] and [Cgroup2] make the ones with a controller.
const (
	Linux          Requirement = "linux"            // the Linux kernel
	Root           Requirement = "root"             // uid 0 with CAP_SYS_ADMIN
	Unprivileged   Requirement = "unprivileged"     // any other uid
	LegacyTree     Requirement = "cgroup1"          // a mounted cgroup v1 hierarchy with a controller
	UnifiedTree    Requirement = "cgroup2"          // a mounted cgroup2 hierarchy, controllers or not
	PSI            Requirement = "psi"              // /proc/pressure
	SocketGroups   Requirement = "socket-groups"    // sockets whose cgroup2 group the kernel finds: Linux 5.15, or no net_cls and net_prio of v1, whose use ends that
	SysResource    Requirement = "cap-sys-resource" // CAP_SYS_RESOURCE
	NetAdmin       Requirement = "cap-net-admin"    // CAP_NET_ADMIN
	UserNamespaces Requirement = "userns"           // this user may make user namespaces
	Swap           Requirement = "swap"             // swap space in use
	BlockDevice    Requirement = "blockdev"         // a block device with a request queue
	ScratchDevice  Requirement = "scratch-blockdev" // CAISSON_BLOCKDEV; see [Scratch]
	Delegation     Requirement = "delegation"       // CAISSON_DELEGATED; see [Delegated]
	Systemd        Requirement = "systemd"          // systemd is init, and has the cgroups
	Matrix         Requirement = "matrix"           // the kernel matrix of test/vm
	EachKernel     Requirement = "each-kernel"      // in the matrix, one environment of each kernel: for what the cgroup mode makes no difference to
	Real           Requirement = "real"             // a machine that is not emulated, for what takes long and is no matter of kernels
	EndToEnd       Requirement = "e2e"              // CAISSON_E2E, for tests that start other people's daemons
)

// Cgroup1 asks for a mounted cgroup v1 hierarchy with the controller, named as
// in /proc/cgroups.
func Cgroup1(controller string) Requirement { return LegacyTree + "." + Requirement(controller) }

// Cgroup2 asks for a mounted cgroup2 hierarchy that has the controller at its
// top, named as in cgroup.controllers.
func Cgroup2(controller string) Requirement { return UnifiedTree + "." + Requirement(controller) }

// Require skips the test at the first requirement that is not met. It fails the
// test instead if the kernel matrix promised that one.
func Require(tb testing.TB, reqs ...Requirement) {
	tb.Helper()
	for _, r := range reqs {
		if err := unmet(r); err != nil {
			Skip(tb, r, "%v", err)
		}
	}
}

// Skip skips the test because r is missing, for the reason given; or fails it
// if the kernel matrix promised r. Use it where [Require] has no probe of its
// own, with the kernel's word as the class: "cgroup.kill", "memory.reclaim".
func Skip(tb testing.TB, r Requirement, format string, args ...any) {
	tb.Helper()
	reason := fmt.Sprintf(format, args...)
	if promised(r) {
		tb.Fatalf("this environment must offer %q, but: %s", string(r), reason)
	}
	tb.Skipf("skip(%s): %s", r, reason)
}

func promised(r Requirement) bool {
	return slices.Contains(strings.Split(os.Getenv("CAISSON_VM_HAS"), ","), string(r))
}

// Emulated reports whether the test runs inside the kernel matrix, where code
// is some ten times slower: use fewer rounds there.
func Emulated() bool { return os.Getenv("CAISSON_VM") != "" }

// Patience stretches a time-out for slow machines: d, or ten times d under
// emulation. It is for upper bounds only.
func Patience(d time.Duration) time.Duration {
	if Emulated() {
		return 10 * d
	}
	return d
}

// Delegated returns a cgroup2 directory that the calling ordinary user owns,
// with all controllers available in it, or skips the test.
func Delegated(tb testing.TB) string {
	tb.Helper()
	Require(tb, Delegation)
	return os.Getenv("CAISSON_DELEGATED")
}

// Scratch returns the path of a block device whose contents tests may
// overwrite, or skips the test.
func Scratch(tb testing.TB) string {
	tb.Helper()
	Require(tb, ScratchDevice)
	return os.Getenv("CAISSON_BLOCKDEV")
}
