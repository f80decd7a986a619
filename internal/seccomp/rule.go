// SPDX-License-Identifier: Apache-2.0

package seccomp

// Rule is one of the profile's in the words of libseccomp, for who loads it with
// that. What no rule names is EPERM.
type Rule struct {
	Names []string   // of system calls, the kernel's
	Errno int        // what they fail with; 0 allows them
	Arg   *Condition // on their first argument; nil is none
}

// Condition holds for an argument whose bits of Mask are Value.
type Condition struct{ Mask, Value uint64 }
