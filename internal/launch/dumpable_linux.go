// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"sync"

	"golang.org/x/sys/unix"
)

// launching is process-wide because what it guards is: the dumpable attribute
// of the memory that we share with every child before its exec. The kernel
// clears it when such a child changes its uid (commit_creds), which keeps a
// process of the same uid from tracing the child and reaching our memory. It
// may come back only once no such child shares the memory any more, and it has
// to: an undumpable process has no core dumps, and without privileges cannot
// even open its own /proc/self/fd.
var launching struct {
	sync.Mutex
	children int
	dumpable int // before the first of them
}

func holdDumpable() {
	launching.Lock()
	defer launching.Unlock()
	if launching.children == 0 {
		launching.dumpable = dumpable()
	}
	launching.children++
}

func releaseDumpable() {
	launching.Lock()
	defer launching.Unlock()
	launching.children--
	// 2, for a binary that nobody may read, cannot be set by prctl; what the
	// kernel left instead is no laxer.
	if was := launching.dumpable; launching.children == 0 && was != 2 && was != dumpable() {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0) // 0 and 1 are never refused
	}
}

// dumpable cannot fail.
func dumpable() int {
	n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return n
}
