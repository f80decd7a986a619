// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"fmt"
	"slices"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/sys"
)

// heldProcesses are some of a group's that are about to die. Their ends are
// announced at once; that of a group's last process may come 10 ms late, since
// the kernel sends no more than one event of a cgroup in that time.
type heldProcesses []*sys.FD

// hold holds some of the processes in n and below it.
func (n *node) hold() heldProcesses {
	if n.dir.IsFake() {
		return nil // its numbers are other processes here
	}
	pids, err := everyone([]*node{n})
	if err != nil || len(pids) == 0 {
		return nil
	}
	const most = 16
	pids = pids[:min(most, len(pids))]
	held := make([]*sys.FD, len(pids))
	for i, pid := range pids {
		held[i], _ = sys.PidfdOpen(pid) // nil if it has ended
	}
	// A number may have gone to a process elsewhere before it was held.
	still, err := everyone([]*node{n})
	var in heldProcesses
	for i, pid := range pids {
		if held[i] == nil {
			continue
		}
		if _, ok := slices.BinarySearch(still, pid); ok && err == nil {
			in = append(in, held[i])
		} else {
			_ = held[i].Close()
		}
	}
	return in
}

// await waits until the group of events is empty. That tells; the end of a held
// process is only when to look again.
func (h heldProcesses) await(ctx context.Context, events *kernfs.File) error {
	for _, p := range h {
		empty, err := isEvent(events, "populated", false)
		if empty || err != nil {
			return err
		}
		for ended := false; !ended; {
			if ended, err = events.WaitOr(ctx, p.Int()); err != nil {
				return fmt.Errorf("wait for the end of a process in %s: %w", events.Path(), err)
			}
			if empty, err := isEvent(events, "populated", false); empty || err != nil {
				return err
			}
		}
	}
	return await(ctx, events, "populated", false)
}

func (h heldProcesses) close() {
	for _, p := range h {
		_ = p.Close()
	}
}
