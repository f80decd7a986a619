// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/rtnl"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// Handle is a way into one network namespace. It is safe for use by many
// goroutines.
type Handle struct {
	id     namespaces.ID
	dev    *kernfs.File // /proc/net/dev of the namespace
	snmp   *kernfs.File // /proc/net/snmp of it
	socket *netlink.Handle

	direct *rtnl.Socket // for what is done often, or has to be fast

	turn   chan struct{} // has room for one: whoever put it there uses the socket
	closed chan struct{}
	once   sync.Once
}

// Open makes a handle on the network namespace ns, which is only used during
// the call.
//
// Errors are those of [namespaces.Do]: [os.ErrPermission] without CAP_SYS_ADMIN
// over the namespace. A namespace of another kind matches [ErrInvalid].
func Open(ns *namespaces.Handle) (*Handle, error) {
	if ns == nil {
		return nil, &namespaces.InvalidError{Field: "network namespace", Value: "nil", Reason: "no handle"}
	}
	if ns.Kind() != namespaces.Network {
		return nil, &namespaces.InvalidError{Field: "network namespace", Value: ns.String(), Reason: "another kind"}
	}
	h := &Handle{id: ns.ID(), turn: make(chan struct{}, 1), closed: make(chan struct{})}
	err := namespaces.Do(func() error {
		dir, err := kernfs.OpenDir("/proc/thread-self/net")
		if err != nil {
			return err
		}
		defer dir.Close()
		if h.dev, err = dir.Open("dev", os.O_RDONLY); err != nil {
			return err
		}
		if h.snmp, err = dir.Open("snmp", os.O_RDONLY); err != nil {
			return err
		}
		if h.direct, err = rtnl.Open(); err != nil {
			return err
		}
		h.socket, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
		return err
	}, ns)
	if err != nil {
		_ = h.Close()
		return nil, &OpError{Op: "open", NS: h.id, Err: err}
	}
	return h, nil
}

// OpenPID makes a handle on the network namespace of the process pid. Errors are
// those of [namespaces.OpenPID] and [Open].
func OpenPID(pid int) (*Handle, error) {
	ns, err := namespaces.OpenPID(pid, namespaces.Network)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return Open(ns)
}

// ID identifies the namespace.
func (h *Handle) ID() namespaces.ID { return h.id }

// Close frees the descriptors. Calls in flight, and all later ones, return
// [os.ErrClosed]. Closing twice is nil.
func (h *Handle) Close() error {
	if h == nil {
		return nil
	}
	h.once.Do(func() {
		close(h.closed)
		h.freeSocket()
	})
	return errors.Join(h.dev.Close(), h.snmp.Close(), h.direct.Close())
}

// freeSocket closes the socket of a closed handle, unless somebody still uses
// it: then release does.
func (h *Handle) freeSocket() {
	select {
	case h.turn <- struct{}{}: // and never taken out again
		if h.socket != nil {
			h.socket.Close()
		}
	default:
	}
}

// release ends the use of the socket.
func (h *Handle) release() {
	<-h.turn
	select {
	case <-h.closed:
		h.freeSocket()
	default:
	}
}
