// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"github.com/caisson-run/caisson/internal/sys"
)

// OpenEvents returns a descriptor that becomes ready when a counter of kind
// changes. It is not ready for what happened before.
//
// The kernel tells of a change of memory.events at most every 10 ms.
//
// Returns an [UnsupportedError] if the group is not under the controller, or
// the kernel or the mode has no such file.
func (c *Cgroup) OpenEvents(kind EventKind) (*Notifier, error) {
	var n *node
	switch kind {
	case EventMemory, EventSwap:
		n = c.node(ControllerMemory)
	case EventPIDs:
		n = c.node(ControllerPIDs)
	case EventState:
		if n = c.unified(); n == nil {
			return nil, c.noUnifiedTree(kind.String())
		}
	default:
		return nil, &InvalidError{Field: "event kind", Value: strconv.Itoa(int(kind)), Reason: "none of the constants"}
	}
	switch {
	case n == nil:
		return nil, &UnsupportedError{Feature: kind.String(), Reason: "the group is not under the controller"}
	case kind == EventMemory && !n.in.v2:
		return n.openOOM()
	case kind == EventSwap && !n.in.v2:
		return nil, &UnsupportedError{Feature: kind.String(), Since: "Linux 4.18", Reason: "cgroup v1 has no such file"}
	}
	file, err := n.openOrAbsent(kind.String())
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, &UnsupportedError{Feature: kind.String(), Reason: "the kernel has no such file"}
	}
	e := &Notifier{file: file}
	if n.dir.IsFake() {
		err = e.ring()
	}
	if err == nil {
		err = e.Ack()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// openOOM registers an eventfd with v1's memory.oom_control, as
// https://docs.kernel.org/admin-guide/cgroup-v1/memory.html says in section 10.
func (n *node) openOOM() (_ *Notifier, err error) {
	e := &Notifier{}
	defer func() {
		if err != nil {
			err = errors.Join(n.failed(err), e.Close())
		}
	}()
	if e.file, err = n.dir.Open(fileName(fileMemoryOOMLegacy), os.O_RDONLY); err != nil {
		return nil, err
	}
	if n.dir.IsFake() {
		return e, e.ring()
	}
	if e.event, err = sys.NewEventFD(); err != nil {
		return nil, err
	}
	register := strconv.Itoa(e.event.Int()) + " " + strconv.Itoa(e.file.FD())
	err = n.dir.WriteFile("cgroup.event_control", register)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		// PREEMPT_RT kernels have none.
		err = &UnsupportedError{Feature: "memory.oom_control", Reason: "this kernel sends no events on v1", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}
