// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package seccomp

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// verdict is what libseccomp would make of rules.
func verdict(rules []Rule, call string, arg uint64) uint32 {
	for _, r := range rules {
		if !slices.Contains(r.Names, call) || r.Arg != nil && arg&r.Arg.Mask != r.Arg.Value {
			continue
		}
		if r.Errno != 0 {
			return uint32(unix.SECCOMP_RET_ERRNO) | uint32(r.Errno)
		}
		return allows
	}
	return refuses
}

// The rules say what the program does, of every call and of all arguments that
// count.
func TestRulesAreTheProgram(t *testing.T) {
	args := []uint64{0, 1, perLinux32, uname26, perQuery, 1 << 40, unix.CLONE_NEWUSER, unix.CLONE_NEWTIME, uint64(unix.SIGCHLD)}
	for _, af := range families() {
		args = append(args, uint64(af))
	}
	args = append(args, unix.AF_ALG, unix.AF_VSOCK, unix.AF_MCTP+1)
	for _, capabilities := range []uint64{0, chroot, sysAdmin, ^uint64(0)} {
		rules, run := Rules(capabilities), machine(t, Default(capabilities))
		newest := slices.Max(allowed(capabilities))
		for nr := range newest + 1 {
			// A call without a name is in no rule.
			call := name(nr)
			for _, arg := range args {
				if a, b := verdict(rules, call, arg), run(auditArch, nr, arg); !assert.Equal(t, b, a, "call %d %q of %#x", nr, call, arg) {
					return
				}
			}
		}
	}
}

// No two calls have one name, or a rule would mean both.
func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]uintptr{}
	for _, nr := range append(allowed(^uint64(0)), unix.SYS_SOCKET, unix.SYS_PERSONALITY) {
		n := name(nr)
		assert.NotEmpty(t, n, "call %d", nr)
		if other, twice := seen[n]; twice {
			assert.Equal(t, other, nr, n)
		}
		seen[n] = nr
	}
}
