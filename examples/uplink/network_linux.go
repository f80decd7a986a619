// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// The addresses of the link's two ends, and of the sandboxes' bridge.
const (
	near, far  = "192.0.2.1/30", "192.0.2.2/30"
	gateway    = "10.7.0.1/24"
	sandboxes  = "10.7.0.0/24"
	linkName   = "up0"
	bridgeName = "br0"
	sinkAddr   = "192.0.2.2:9"
)

// wire makes a machine with a bridge for sandboxes and, over a link of that rate, what
// is outside.
func wire(machine, outside *namespaces.Handle, rate uint64) error {
	err := namespaces.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}); err != nil {
			return err
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: linkName}, PeerName: linkName, PeerNamespace: netlink.NsFd(outside.FD())}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		if err := up(linkName, near); err != nil {
			return err
		}
		if err := up(bridgeName, gateway); err != nil {
			return err
		}
		const tick, burst = 64e-9, 32 << 10 // of the kernel's clock for queues; what is larger is segmented
		const packet = 1514
		bytes := rate / 8
		if err := netlink.LinkSetTxQLen(veth, int(bytes/10/packet)); err != nil {
			return err
		}
		err := netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: veth.Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       bytes, Limit: uint32(bytes / 10), Buffer: uint32(burst / float64(bytes) / tick),
		})
		if err != nil {
			return err
		}
		err = netlink.QdiscAdd(&netlink.GenericQdisc{QdiscType: "pfifo_fast", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: veth.Index, Handle: netlink.MakeHandle(2, 0), Parent: netlink.MakeHandle(1, 1)}})
		if err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}, machine)
	if err != nil {
		return err
	}
	return namespaces.Do(func() error {
		if err := up(linkName, far); err != nil {
			return err
		}
		_, to, err := net.ParseCIDR(sandboxes)
		if err != nil {
			return err
		}
		via, _, err := net.ParseCIDR(near)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: to, Gw: via})
	}, outside)
}

func up(link, addr string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}
