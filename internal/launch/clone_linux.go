// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import _ "unsafe" // for go:linkname

// clone blocks all signals on the calling thread, makes the child that h
// describes, sleeps until that has left our memory, and puts the signal mask
// back. It returns clone3's errno. The child never returns from it.
//
//go:noescape
func clone(h *header) (errno uintptr)

// vfork is clone as a system call that blocks: the scheduler gives the thread's
// P away at once. Nothing between the two runtime calls may grow the stack.
//
//go:nosplit
//go:norace
func vfork(h *header) uintptr {
	entersyscallblock()
	errno := clone(h)
	exitsyscall()
	return errno
}

// The runtime keeps these two for use by name (go.dev/issue/67401).

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
