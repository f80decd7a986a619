// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"net"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestSetLink(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.NetAdmin)
	ns, err := namespaces.Create(namespaces.Network)
	require.NoError(t, err)
	defer ns.Close()
	require.NoError(t, namespaces.Do(func() error {
		s, err := Open()
		if err != nil {
			return err
		}
		defer func() { assert.NoError(t, s.Close()) }()
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "two"}
		assert.NoError(t, netlink.LinkAdd(bridge))
		assert.NoError(t, netlink.LinkAdd(veth))
		mac := net.HardwareAddr{2, 1, 2, 3, 4, 5}
		assert.NoError(t, s.SetLink(veth.Index, Link{Name: "new", Alias: "of nobody", MAC: mac, MTU: 1400, Master: bridge.Index, Up: true}))
		look := func() *netlink.LinkAttrs {
			link, err := netlink.LinkByName("new")
			if !assert.NoError(t, err) {
				return &netlink.LinkAttrs{}
			}
			return link.Attrs()
		}
		got := look()
		assert.Equal(t, "of nobody", got.Alias)
		assert.Equal(t, mac, got.HardwareAddr)
		assert.Equal(t, 1400, got.MTU)
		assert.Equal(t, bridge.Index, got.MasterIndex)
		assert.NotZero(t, got.RawFlags&unix.IFF_UP)
		assert.NoError(t, s.SetLink(veth.Index, Link{}))
		got = look()
		assert.Equal(t, "of nobody", got.Alias, "what is zero stays")
		assert.Equal(t, mac, got.HardwareAddr)
		assert.NotZero(t, got.RawFlags&unix.IFF_UP)
		assert.Zero(t, got.MasterIndex, "but for the master")

		index, mtu, err := s.Index("new")
		assert.NoError(t, err)
		assert.Equal(t, veth.Index, index)
		assert.Equal(t, 1400, mtu)
		_, _, err = s.Index("old")
		assert.ErrorIs(t, err, unix.ENODEV)
		_, _, err = s.Index("sixteen--letters")
		assert.Error(t, err)
		assert.ErrorIs(t, s.SetLink(9999, Link{Up: true}), unix.ENODEV)
		assert.ErrorIs(t, s.SetLink(bridge.Index, Link{Name: "two"}), unix.EEXIST)
		assert.NoError(t, s.Close())
		assert.Error(t, s.SetLink(veth.Index, Link{}))
		_, _, err = s.Index("new")
		assert.Error(t, err)
		return nil
	}, ns))
}
