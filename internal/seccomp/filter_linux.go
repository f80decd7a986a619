// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package seccomp

import (
	"encoding/binary"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// insn is struct sock_filter.
type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Opcodes of classic BPF, and offsets in struct seccomp_data. Both architectures
// are little-endian, so the lower half of an argument comes first.
const (
	ldAbs = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jmp   = unix.BPF_JMP | unix.BPF_JA
	jeq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jgt   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	jge   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jset  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	ret   = unix.BPF_RET | unix.BPF_K

	offNr, offArch, offArg0 = 0, 4, 16
)

var (
	allow  = insn{code: ret, k: unix.SECCOMP_RET_ALLOW}
	refuse = insn{code: ret, k: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	absent = insn{code: ret, k: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
)

// Default is the filter for a process that keeps these capabilities (bit n is
// capability n), as an array of struct sock_filter.
func Default(capabilities uint64) []byte {
	calls := allowed(capabilities)
	p := []insn{
		{code: ldAbs, k: offArch},
		{code: jeq, k: auditArch, jt: 1}, absent,
		{code: ldAbs, k: offNr},
	}
	for _, s := range specials(capabilities) {
		p = append(p, insn{code: jeq, k: uint32(s.nr), jf: uint8(len(s.then))})
		p = append(p, s.then...)
	}
	// A number that is newer than all of these the program does not expect to be
	// refused; one of the x32 ABI is above them as well.
	p = append(p, insn{code: jgt, k: uint32(slices.Max(calls)), jf: 1}, absent)
	return encode(append(p, search(bounds(calls), false)...))
}

// special is a call whose arguments count, or that is refused in another way.
type special struct {
	nr   uintptr
	then []insn
}

func specials(capabilities uint64) []special {
	list := []special{
		{unix.SYS_SOCKET, append([]insn{{code: ldAbs, k: offArg0}}, search(bounds(families()), false)...)},
		{unix.SYS_PERSONALITY, oneOf(personalities())},
	}
	if capabilities>>unix.CAP_SYS_ADMIN&1 == 0 {
		list = append(list,
			// No new namespaces. The flags of clone3 are in memory, out of reach;
			// without it C libraries use clone.
			special{unix.SYS_CLONE, []insn{
				{code: ldAbs, k: offArg0}, {code: jset, k: newNamespaces, jf: 1}, refuse, allow,
			}},
			special{unix.SYS_CLONE3, []insn{absent}})
	}
	return list
}

// Of personality(2).
const (
	perLinux   = 0
	perLinux32 = 0x8
	uname26    = 0x20000
	perQuery   = 0xffffffff // changes nothing
)

func personalities() []uint32 {
	return []uint32{perLinux, perLinux32, uname26, perLinux32 | uname26, perQuery}
}

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// families are the address families that sockets may be of: all up to MCTP but
// AF_ALG, by which the page cache could be written (CVE-2026-31431), and AF_VSOCK,
// which leads to the hypervisor.
func families() []uint32 {
	var list []uint32
	for af := uint32(0); af <= unix.AF_MCTP; af++ {
		if af != unix.AF_ALG && af != unix.AF_VSOCK {
			list = append(list, af)
		}
	}
	return list
}

// oneOf allows the call if its first argument, an int, has one of the values.
func oneOf(values []uint32) []insn {
	p := []insn{{code: ldAbs, k: offArg0}}
	for i, v := range values {
		p = append(p, insn{code: jeq, k: v, jt: uint8(len(values) - i)})
	}
	return append(p, refuse, allow)
}

// bounds are the numbers, sorted, at which it changes whether a number is in the
// sorted list: the first of those that follow each other, and the one after the last.
func bounds[N uintptr | uint32](list []N) (at []uint32) {
	for _, n := range list {
		if last := len(at) - 1; last >= 0 && at[last] == uint32(n) {
			at[last]++
		} else {
			at = append(at, uint32(n), uint32(n)+1)
		}
	}
	return at
}

// search allows what is behind an odd number of the bounds and refuses the rest, or
// the other way round if allowed is true. It takes two instructions for a bound: what
// the kernel does with a filter when it is loaded takes longer the longer that is.
func search(bounds []uint32, allowed bool) []insn {
	if len(bounds) == 0 {
		if allowed {
			return []insn{allow}
		}
		return []insn{refuse}
	}
	half := len(bounds) / 2
	low, high := search(bounds[:half], allowed), search(bounds[half+1:], allowed != (half%2 == 0))
	p := []insn{{code: jge, k: bounds[half], jt: uint8(min(len(low), math.MaxUint8))}}
	if len(low) > math.MaxUint8 {
		p = []insn{{code: jge, k: bounds[half], jf: 1}, {code: jmp, k: uint32(len(low))}}
	}
	return append(append(p, low...), high...)
}

func encode(p []insn) []byte {
	b := make([]byte, 0, len(p)*8)
	for _, i := range p {
		b = binary.LittleEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return b
}
