// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"iter"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// GroupStatus is what Container.Cgroup tells of a container, for the Check of a
// driver that sets it: processes, whether they are frozen, the path. A group that
// is gone is an error that matches [ErrNotFound].
func (c *Container) GroupStatus() (Status, error) { return checkGroup(c.Cgroup) }

// GroupEvents is a Watch for drivers that set Container.Cgroup: the events of the
// group, drift included, until ended is closed, and then last as the last one.
func (c *Container) GroupEvents(ctx context.Context, engine *elastic.Engine, pressure []elastic.Threshold,
	ended <-chan struct{}, last func() Event,
) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		watchGroup(ctx, engine, c, pressure, ended, func() (Event, error) { return last(), nil }, yield)
	}
}

// GroupExit is st with what follows from it, the code of a signal, and with what the
// group knows about it: whether the kernel killed in there for lack of memory.
func (c *Container) GroupExit(st ExitStatus) ExitStatus {
	if st.Signal != 0 {
		st.Code = 128 + st.Signal
	}
	// Only a kill can have been for lack of memory; an unknown end too.
	if !st.Known || st.Signal == int(syscall.SIGKILL) {
		var ev cgroups.Events
		if c.Cgroup != nil && c.Cgroup.Events(&ev) == nil {
			kills, _ := ev.Memory.OOMKill.Value()
			st.OOM = kills > 0
		}
	}
	return st
}

// Ended tells the host, for its journal, how the first process ended. A driver
// calls it once, when it knows.
func (c *Container) Ended(st ExitStatus) {
	if c.ended != nil {
		c.ended(st)
	}
}
