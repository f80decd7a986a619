// SPDX-License-Identifier: Apache-2.0

package devfilter

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/caisson-run/caisson/internal/bpf"
)

// Rule allows access to device nodes.
type Rule struct {
	Block    bool // a block device, not a character device
	AnyMajor bool
	AnyMinor bool
	Major    uint32
	Minor    uint32
	Read     bool
	Write    bool
	Mknod    bool
}

// Values of struct bpf_cgroup_dev_ctx (include/uapi/linux/bpf.h).
const (
	accessMknod = 1 << iota
	accessRead
	accessWrite

	typeBlock = 1
	typeChar  = 2
)

// Name is the name of the program of the rules: what is allowed, hashed. Their
// order counts.
func Name(rules []Rule) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%+v", rules))
	return "cais_" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:])[:10])
}

// Load gives the rules to the kernel, under their name.
func Load(rules []Rule) (*bpf.Program, error) {
	return bpf.Load(bpf.CgroupDevice, Name(rules), Assemble(rules))
}

// Assemble is the program that allows what one of the rules allows and denies
// the rest.
func Assemble(rules []Rule) []byte {
	var prog []byte
	emit := func(insns ...[]byte) {
		for _, i := range insns {
			prog = append(prog, i...)
		}
	}
	// r1 is the context: u32 access<<16|type, major, minor.
	emit(
		bpf.Insn(bpf.LoadWord, 2, 1, 0, 0),
		bpf.Insn(bpf.Move, 3, 2, 0, 0),
		bpf.Insn(bpf.And, 2, 0, 0, 0xffff), // r2: type
		bpf.Insn(bpf.Shift, 3, 0, 0, 16),   // r3: access
		bpf.Insn(bpf.LoadWord, 4, 1, 4, 0), // r4: major
		bpf.Insn(bpf.LoadWord, 5, 1, 8, 0), // r5: minor
	)
	for _, r := range rules {
		kind, access := uint32(typeChar), uint32(0)
		if r.Block {
			kind = typeBlock
		}
		for _, a := range []struct {
			on  bool
			bit uint32
		}{{r.Read, accessRead}, {r.Write, accessWrite}, {r.Mknod, accessMknod}} {
			if a.on {
				access |= a.bit
			}
		}
		// Each test jumps to the next rule when it fails.
		var body [][]byte
		test := func(reg byte, value uint32) { body = append(body, bpf.Insn(bpf.JumpNe, reg, 0, 0, value)) }
		test(2, kind)
		// Whatever is wanted beyond what the rule gives fails it.
		body = append(body, bpf.Insn(bpf.Move, 1, 3, 0, 0), bpf.Insn(bpf.And, 1, 0, 0, ^access))
		test(1, 0)
		if !r.AnyMajor {
			test(4, r.Major)
		}
		if !r.AnyMinor {
			test(5, r.Minor)
		}
		body = append(body, bpf.Insn(bpf.MoveImm, 0, 0, 0, 1), bpf.Insn(bpf.Exit, 0, 0, 0, 0))
		for i, in := range body {
			if in[0] == bpf.JumpNe {
				binary.NativeEndian.PutUint16(in[2:], uint16(len(body)-i-1))
			}
		}
		emit(body...)
	}
	emit(bpf.Insn(bpf.MoveImm, 0, 0, 0, 0), bpf.Insn(bpf.Exit, 0, 0, 0, 0))
	return prog
}
