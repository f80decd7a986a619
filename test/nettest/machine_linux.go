// SPDX-License-Identifier: Apache-2.0

package nettest

import (
	"os"
	"testing"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// Machine is a network namespace that stands for a machine, with a loopback device
// that is up and has the addresses. Whatever is connected with it later may use its
// IPv6 addresses at once. It ends with the test.
func Machine(tb testing.TB, addrs ...string) *namespaces.Handle {
	tb.Helper()
	machine, err := namespaces.Create(namespaces.Network)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, machine.Close()) })
	Sysctl(tb, machine, "net/ipv6/conf/default/accept_dad", "0")
	Up(tb, machine, "lo", addrs...)
	return machine
}

// Sysctl sets a parameter of the namespace.
func Sysctl(tb testing.TB, ns *namespaces.Handle, name, value string) {
	tb.Helper()
	require.NoError(tb, namespaces.Do(func() error {
		return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	}, ns))
}

// Forward has a machine forward what is not for itself.
func Forward(tb testing.TB, machine *namespaces.Handle) {
	tb.Helper()
	Sysctl(tb, machine, "net/ipv4/ip_forward", "1")
	Sysctl(tb, machine, "net/ipv6/conf/all/forwarding", "1")
}

// Up gives a link the addresses and sets it up.
func Up(tb testing.TB, ns *namespaces.Handle, link string, addrs ...string) {
	tb.Helper()
	require.NoError(tb, namespaces.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, text := range addrs {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = 2 // IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	}, ns))
}

// Bridge makes a bridge with the addresses.
func Bridge(tb testing.TB, machine *namespaces.Handle, name string, addrs ...string) {
	tb.Helper()
	require.NoError(tb, namespaces.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}, machine))
	Up(tb, machine, name, addrs...)
}

// Cable connects two machines by a pair of links that are called name on both.
func Cable(tb testing.TB, name string, a, b *namespaces.Handle) {
	tb.Helper()
	require.NoError(tb, namespaces.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(b.FD())})
	}, a))
}
