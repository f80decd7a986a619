// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"errors"
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
//
// Files of a child in /proc, its id maps above all, are root's too meanwhile. So
// what an ordinary user writes there is written while no such child is under way,
// and the one that it is written for counts as one from then on.
var launching struct {
	sync.Mutex
	children int
	idle     chan struct{} // closed once there are none
	dumpable int           // before the first of them
}

func holdDumpable() {
	launching.Lock()
	defer launching.Unlock()
	oneMore()
}

// oneMore is called with launching held.
func oneMore() {
	if launching.children == 0 {
		launching.dumpable, launching.idle = dumpable(), make(chan struct{})
	}
	launching.children++
}

// whileDumpable calls do while there is no such child, and counts one more if that
// succeeds. It gives up once quit is closed.
func whileDumpable(quit <-chan struct{}, do func() error) error {
	for {
		launching.Lock()
		if launching.children == 0 {
			defer launching.Unlock()
			if err := do(); err != nil {
				return err
			}
			oneMore()
			return nil
		}
		idle := launching.idle
		launching.Unlock()
		select {
		case <-idle:
		case <-quit:
			return errCancelled
		}
	}
}

var errCancelled = errors.New("cancelled while other children were under way")

func releaseDumpable() {
	launching.Lock()
	defer launching.Unlock()
	if launching.children--; launching.children > 0 {
		return
	}
	defer close(launching.idle)
	// 2, for a binary that nobody may read, cannot be set by prctl; what the
	// kernel left instead is no laxer.
	if was := launching.dumpable; was != 2 && was != dumpable() {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0) // 0 and 1 are never refused
	}
}

// dumpable cannot fail.
func dumpable() int {
	n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return n
}
