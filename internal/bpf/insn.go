// SPDX-License-Identifier: Apache-2.0

package bpf

import "encoding/binary"

// Opcodes (include/uapi/linux/bpf_common.h, bpf.h).
const (
	LoadWord  = 0x61 // dst = *(u32 *)(src + off)
	StoreWord = 0x63 // *(u32 *)(dst + off) = src
	Move      = 0xbf // dst = src
	MoveImm   = 0xb7 // dst = imm
	And       = 0x57 // dst &= imm
	Shift     = 0x77 // dst >>= imm
	JumpNe    = 0x55 // if dst != imm goto +off
	Exit      = 0x95
)

// InsnSize is the length of an instruction.
const InsnSize = 8

// Insn is struct bpf_insn in the machine's byte order.
func Insn(code, dst, src byte, off int16, imm uint32) []byte {
	b := make([]byte, InsnSize)
	b[0] = code
	b[1] = dst | src<<4
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 { // the two registers are a bit field
		b[1] = dst<<4 | src
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(off))
	binary.NativeEndian.PutUint32(b[4:], imm)
	return b
}

// Type is what a program is for.
type Type uint8

// The types of programs that there are here.
const (
	CgroupDevice Type = iota // which devices a group may use
	CgroupEgress             // of packets that a group sends
	Filter                   // of packets, for tc-bpf(8) in direct-action mode
)
