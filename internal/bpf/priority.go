// SPDX-License-Identifier: Apache-2.0

package bpf

import "slices"

// Priority is the program of a filter in direct-action mode that gives each packet
// the priority, and leaves it to the filters behind it.
func Priority(priority uint32) []byte {
	const unspec = ^uint32(0) // TC_ACT_UNSPEC
	return prioritize(priority, unspec)
}

// EgressPriority is the program of a group that does the same, and lets it pass.
func EgressPriority(priority uint32) []byte { return prioritize(priority, 1) }

func prioritize(priority, verdict uint32) []byte {
	const offset = 32 // of struct __sk_buff
	// r1 is the context, which takes no constants before Linux 6.4.
	return slices.Concat(
		Insn(MoveImm, 2, 0, 0, priority),
		Insn(StoreWord, 1, 2, offset, 0),
		Insn(MoveImm, 0, 0, 0, verdict),
		Insn(Exit, 0, 0, 0, 0),
	)
}
