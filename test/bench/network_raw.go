// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// raw sends the messages that a network takes, over one socket on each side.
func (m *machine) raw() *attach {
	a := &attach{name: rowRawNetwork}
	var outside *netlink.Handle
	var newLink *nl.SocketHandle
	var bridge int
	a.err = namespaces.Do(func() (err error) {
		if outside, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		newLink = &nl.SocketHandle{Socket: s}
		link, err := outside.LinkByName("br0")
		if err == nil {
			bridge = link.Attrs().Index
		}
		return err
	}, m.ns)
	if a.err != nil {
		return a
	}
	m.ends = append(m.ends, func() error { outside.Close(); newLink.Close(); return nil })
	pin := filepath.Join(m.dir, "raw")
	const end = "raw0"
	a.make = func() error {
		ns, err := namespaces.Create(namespaces.Network)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := ns.Pin(pin); err != nil {
			return err
		}
		var inside *netlink.Handle
		if err := namespaces.Do(func() (err error) {
			inside, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		}, ns); err != nil {
			return err
		}
		defer inside.Close()
		if err := addVeth(newLink, end, bridge, ns.FD()); err != nil {
			return err
		}
		peer, err := inside.LinkByName("eth0")
		if err != nil {
			return err
		}
		machineEnd, err := outside.LinkByName(end)
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 77, 100, 2).To4(), Mask: net.CIDRMask(16, 32)}}
		tbf := func(index int) *netlink.Tbf {
			return &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
				Rate: 125e6, Limit: 8e6, Buffer: 156250}
		}
		return errors.Join(
			inside.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}),
			inside.AddrAdd(peer, addr), inside.LinkSetUp(peer),
			inside.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Gw: net.IPv4(10, 77, 0, 1).To4()}),
			inside.QdiscAdd(tbf(peer.Attrs().Index)), outside.QdiscAdd(tbf(machineEnd.Attrs().Index)))
	}
	a.drop = func() error {
		err := namespaces.Unpin(pin)
		for range 1000 {
			if _, gone := outside.LinkByName(end); gone != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		return err
	}
	return a
}

// addVeth makes a pair with one message: in the bridge and up on one side, in the
// namespace on the other.
func addVeth(s *nl.SocketHandle, end string, bridge, ns int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(end)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("eth0"))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns)))
	req.AddData(info)
	_, err := req.Execute(syscall.NETLINK_ROUTE, 0)
	return err
}
