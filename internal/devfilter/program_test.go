// SPDX-License-Identifier: Apache-2.0

package devfilter

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/caisson-run/caisson/internal/bpf"
	"github.com/stretchr/testify/require"
)

// request is what the kernel asks a program about.
type request struct {
	block               bool
	major, minor        uint32
	mknod, read, writes bool
}

// run interprets the program.
func run(t *testing.T, prog []byte, q request) bool {
	t.Helper()
	kind, access := uint32(typeChar), uint32(0)
	if q.block {
		kind = typeBlock
	}
	for i, on := range []bool{q.mknod, q.read, q.writes} {
		if on {
			access |= 1 << i
		}
	}
	ctx := map[int16]uint64{0: uint64(access<<16 | kind), 4: uint64(q.major), 8: uint64(q.minor)}
	var r [11]uint64
	for pc, steps := 0, 0; ; pc++ {
		if steps > 1000 {
			t.Fatal("the program does not end")
		}
		steps++
		in := prog[pc*8 : pc*8+8]
		dst, src := in[1]&15, in[1]>>4
		off := int16(binary.NativeEndian.Uint16(in[2:]))
		imm := int64(int32(binary.NativeEndian.Uint32(in[4:])))
		switch in[0] {
		case bpf.LoadWord:
			r[dst] = ctx[off]
		case bpf.Move:
			r[dst] = r[src]
		case bpf.MoveImm:
			r[dst] = uint64(imm)
		case bpf.And:
			r[dst] &= uint64(imm)
		case bpf.Shift:
			r[dst] >>= uint64(imm)
		case bpf.JumpNe:
			if r[dst] != uint64(imm) {
				pc += int(off)
			}
		case bpf.Exit:
			return r[0] != 0
		default:
			t.Fatalf("opcode %#x", in[0])
		}
	}
}

func allows(rules []Rule, q request) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Block == q.block && (r.AnyMajor || r.Major == q.major) && (r.AnyMinor || r.Minor == q.minor) &&
			(r.Read || !q.read) && (r.Write || !q.writes) && (r.Mknod || !q.mknod)
	})
}

// TestAssemble runs random programs on random requests and compares with what
// the rules say.
func TestAssemble(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func() bool { return r.IntN(2) == 0 }
	allowed := 0
	for range 200 {
		rules := make([]Rule, r.IntN(5))
		for i := range rules {
			rules[i] = Rule{
				Block: some(), AnyMajor: some(), AnyMinor: some(), Major: r.Uint32N(3), Minor: r.Uint32N(3) << 18,
				Read: some(), Write: some(), Mknod: some(),
			}
		}
		prog := Assemble(rules)
		for range 20 {
			q := request{some(), r.Uint32N(3), r.Uint32N(3) << 18, some(), some(), some()}
			want := allows(rules, q)
			if run(t, prog, q) != want {
				t.Fatalf("%+v of %+v is not %t", q, rules, want)
			}
			if want {
				allowed++
			}
		}
	}
	require.Greater(t, allowed, 100)
}

func TestName(t *testing.T) {
	null := Rule{Major: 1, Minor: 3, Read: true}
	a, b := Name([]Rule{null}), Name(nil)
	require.NotEqual(t, a, b)
	require.Equal(t, a, Name([]Rule{null}))
	require.Regexp(t, "^cais_[a-z2-7]{10}$", a)
}
