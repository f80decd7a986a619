// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"sync"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/sys"
)

// What [Notifier.PollEvents] returns: the bits of poll(2) and epoll_ctl(2).
const (
	pollIn  = 0x1
	pollPri = 0x2
)

// A Notifier is a descriptor of its own that becomes ready when something
// happened to a group. It says that, not what: after [Notifier.Ack] read
// [Cgroup.Events] or [Cgroup.Pressure].
//
// It does not depend on the [Cgroup] value it came from, and must be closed by
// itself.
type Notifier struct {
	mu    sync.RWMutex // Close waits for uses of the descriptors
	file  *kernfs.File // reading it takes note of a change, and tells whether the group lives
	event *sys.FD      // v1's eventfd, or a fake's; nil if file itself is polled
	node  *node        // of a pressure trigger on a group; nil otherwise
}

// ring gives the notifier of a fake's file an eventfd to poll.
func (n *Notifier) ring() error {
	event, err := sys.NewEventFD()
	if err == nil && n.file.NotifyFake(func() { _ = sys.RingEventFD(event) }) {
		n.event = event
		return nil
	}
	return errors.Join(err, event.Close())
}

// FD is the descriptor to poll. It is the Notifier's: valid until Close, not to
// be read, written or closed.
func (n *Notifier) FD() int {
	if n.event != nil {
		return n.event.Int()
	}
	return n.file.FD()
}

// PollEvents is what to poll the descriptor for: POLLPRI for the kernel's own
// files, POLLIN for the eventfd that v1 (and a fake) uses. POLLERR comes unasked; with
// POLLPRI it is part of every change of a kernel file and does not mean that
// the group is gone.
func (n *Notifier) PollEvents() uint32 {
	if n.event != nil {
		return pollIn
	}
	return pollPri
}

// Ack takes note of what made the descriptor ready, so that it waits for the
// next change. Call it before reading the figures: what changes in between
// makes the descriptor ready again.
//
// A removed group makes the descriptor ready, most of them for ever. Ack then
// returns an error that matches [ErrGone], and nothing is left to do but Close. A
// trigger of a group whose cgroup.pressure was set to 0 is as dead, and Ack returns an
// [UnsupportedError].
func (n *Notifier) Ack() error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.event != nil {
		if _, err := sys.DrainEventFD(n.event); err != nil {
			return err
		}
	}
	var buf [512]byte
	_, err := n.file.ReadAt(buf[:])
	switch {
	case err == nil || !kernfs.IsGone(err):
		return err
	case n.node != nil && n.node.pressureOff():
		return n.node.whyNoPressure("pressure trigger")
	}
	return &goneError{err}
}

// Close frees the descriptor; the kernel forgets the trigger. Closing twice is
// nil.
func (n *Notifier) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.file.Close() // first: a fake's rings the eventfd until then
	return errors.Join(err, n.event.Close())
}
