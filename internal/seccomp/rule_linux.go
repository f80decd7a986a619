// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Rules is the profile that [Default] compiles, for the native ABI alone, but for
// one thing that rules cannot say: a call that is newer than all of them is EPERM,
// not ENOSYS, unless who loads them sees to it.
func Rules(capabilities uint64) []Rule {
	var plain Rule
	for _, nr := range allowed(capabilities) {
		if !slices.ContainsFunc(specials(capabilities), func(s special) bool { return s.nr == nr }) {
			plain.Names = append(plain.Names, name(nr))
		}
	}
	slices.Sort(plain.Names)
	const anInt = 1<<32 - 1
	rules := []Rule{plain}
	for _, c := range []struct {
		nr     uintptr
		values []uint32
	}{{unix.SYS_SOCKET, families()}, {unix.SYS_PERSONALITY, personalities()}} {
		for _, v := range c.values {
			rules = append(rules, Rule{Names: []string{name(c.nr)}, Arg: &Condition{anInt, uint64(v)}})
		}
	}
	if capabilities>>unix.CAP_SYS_ADMIN&1 == 0 {
		rules = append(rules,
			Rule{Names: []string{name(unix.SYS_CLONE)}, Arg: &Condition{Mask: newNamespaces}},
			Rule{Names: []string{name(unix.SYS_CLONE3)}, Errno: int(unix.ENOSYS)})
	}
	return rules
}

// name is the kernel's of a call.
func name(nr uintptr) string {
	if n, ok := names[nr]; ok {
		return n
	}
	return namesHere[nr]
}
