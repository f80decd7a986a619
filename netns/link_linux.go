// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/caisson-run/caisson/internal/rtnl"
	"github.com/vishvananda/netlink"
)

// Links lists the namespace's links in the order of their indices, with their
// addresses.
//
// Errors are [*OpError]; one that matches [ErrInterrupted] says that links or
// addresses kept changing.
func (h *Handle) Links(ctx context.Context) ([]Link, error) {
	return do(ctx, h, "list links", "", func(socket *netlink.Handle) ([]Link, error) {
		found, err := socket.LinkList()
		if err != nil {
			return nil, err
		}
		return withAddrs(socket, found, nil)
	})
}

// Link looks at one link. The error matches [os.ErrNotExist] if there is none of
// this name, and [ErrInvalid] if there can be none.
func (h *Handle) Link(ctx context.Context, name string) (Link, error) {
	if err := checkName(name); err != nil {
		return Link{}, err
	}
	return do(ctx, h, "look at", name, func(socket *netlink.Handle) (Link, error) {
		found, err := socket.LinkByName(name)
		if err != nil {
			return Link{}, err
		}
		links, err := withAddrs(socket, []netlink.Link{found}, found)
		if err != nil {
			return Link{}, err
		}
		return links[0], nil
	})
}

// withAddrs converts links, and adds their addresses: those of all links, or of
// only one.
func withAddrs(socket *netlink.Handle, found []netlink.Link, only netlink.Link) ([]Link, error) {
	addrs, err := socket.AddrList(only, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	links := make([]Link, len(found))
	at := make(map[int]*Link, len(found))
	for i, l := range found {
		links[i] = linkOf(l)
		at[links[i].Index] = &links[i]
	}
	for _, a := range addrs {
		// A link that came between the two lists is not reported by halves.
		if l := at[a.LinkIndex]; l != nil {
			p, err := prefixOf(a.IPNet)
			if err != nil {
				return nil, err
			}
			l.Addrs = append(l.Addrs, p)
		}
	}
	return links, nil
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	link := Link{
		Name:    a.Name,
		Index:   a.Index,
		Kind:    l.Type(),
		Alias:   a.Alias,
		MTU:     a.MTU,
		MAC:     a.HardwareAddr.String(),
		Up:      a.RawFlags&syscall.IFF_UP != 0,
		Running: a.RawFlags&syscall.IFF_RUNNING != 0,
	}
	switch l.(type) {
	case *netlink.Device:
		link.Kind = ""
	case *netlink.Tuntap:
		link.Kind = "tun" // the kernel's word
	}
	if s := a.Statistics; s != nil {
		link.Stats = LinkStats{
			RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors,
			RxDropped: s.RxDropped + s.RxMissedErrors, // the sum that /proc/net/dev shows
			TxBytes:   s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
		}
	}
	return link
}

func prefixOf(n *net.IPNet) (netip.Prefix, error) {
	if n != nil {
		addr, ok := netip.AddrFromSlice(n.IP)
		bits, size := n.Mask.Size()
		if ok && size == addr.BitLen() {
			return netip.PrefixFrom(addr, bits), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("the kernel sent an address that is none: %v", n)
}

// SetUp sets the link up. One that is up stays so. The error matches
// [os.ErrNotExist] if there is no such link, [ErrInvalid] if there can be none,
// [os.ErrPermission] without CAP_NET_ADMIN over the namespace.
func (h *Handle) SetUp(ctx context.Context, name string) error {
	return h.set(ctx, "set up", name, (*netlink.Handle).LinkSetUp)
}

// SetDown sets the link down, which also drops its routes. Errors are those of
// [Handle.SetUp].
func (h *Handle) SetDown(ctx context.Context, name string) error {
	return h.set(ctx, "set down", name, (*netlink.Handle).LinkSetDown)
}

// setLink changes several things of the link of that index at once.
func (h *Handle) setLink(ctx context.Context, index int, l rtnl.Link) error {
	_, err := once(ctx, h, "set", l.Name, func(*netlink.Handle) (struct{}, error) {
		return struct{}{}, h.direct.SetLink(index, l)
	})
	return err
}

func (h *Handle) set(ctx context.Context, op, name string, set func(*netlink.Handle, netlink.Link) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := do(ctx, h, op, name, func(socket *netlink.Handle) (struct{}, error) {
		// By index: the library would act on "no link" if its own search failed.
		link, err := socket.LinkByName(name)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, set(socket, link)
	})
	return err
}

// TCP reads the counters of TCP in the namespace into st, which is unchanged after an
// error. It neither allocates nor waits for the kernel's lock on network
// configuration.
func (h *Handle) TCP(st *TCPStats) error {
	var buf [4096]byte // all of the file, some 1,500 bytes
	n, err := h.snmp.ReadAt(buf[:])
	var got TCPStats
	if err == nil {
		got, err = parseTCP(buf[:n])
	}
	if err != nil {
		return &OpError{Op: "count TCP", NS: h.id, Err: err}
	}
	*st = got
	return nil
}

// Queue reads the counters of the queue that a link sends from, whatever its kind and
// whoever made it, into q, which is unchanged after an error. A link without one, as
// most of those that are no hardware, counts nothing. It does not allocate, and waits for
// the kernel's lock on network configuration. Errors are those of [Handle.Link].
func (h *Handle) Queue(name string, q *Queue) error {
	if err := checkName(name); err != nil {
		return err
	}
	index, _, err := h.direct.Index(name)
	if err != nil {
		return &OpError{Op: "count the queue of", Link: name, NS: h.id, Err: explain(err)}
	}
	c, err := h.direct.RootQdisc(index)
	return h.queued(name, q, c, err)
}

// Stats reads the counters of a link into st, which is unchanged after an error.
// It neither allocates nor waits for the kernel's lock on network
// configuration. Errors are those of [Handle.Link].
func (h *Handle) Stats(name string, st *LinkStats) error {
	if err := checkName(name); err != nil {
		return err
	}
	var buf [4096]byte // what the kernel returns at once: about 35 links
	n, err := h.dev.ReadAt(buf[:])
	if err != nil {
		return &OpError{Op: "count", Link: name, NS: h.id, Err: err}
	}
	got, found, err := findStats(buf[:n], name)
	if err == nil && !found {
		var all []byte
		if all, err = h.dev.Read(nil); err == nil {
			got, found, err = findStats(all, name)
		}
	}
	if err == nil && !found {
		err = noLink{}
	}
	if err != nil {
		return &OpError{Op: "count", Link: name, NS: h.id, Err: err}
	}
	*st = got
	return nil
}
