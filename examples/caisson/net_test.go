// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNetFlags(t *testing.T) {
	limit := netns.BitsPerSecond(1e8)
	want := netns.Spec{
		Mode: netns.ModeNew,
		Interfaces: []netns.Interface{{Kind: netns.Veth, Bridge: "br0", MTU: 1400, Name: "net0", MAC: "02:00:00:00:00:01",
			Addrs:     []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
			Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Bandwidth: netns.Bandwidth{Egress: limit, Ingress: netns.BitsPerSecond(5e7)}}},
		DNS: netns.DNS{Servers: []netip.Addr{netip.MustParseAddr("9.9.9.9")}},
	}
	link := "veth:bridge=br0,ip=10.0.0.2/24,ip=fd00::2/64,gw=10.0.0.1,mtu=1400,name=net0,mac=02:00:00:00:00:01"
	for _, args := range [][]string{
		{"--net", link, "--net-rate", "100mbit", "--net-ingress", "50mbit", "--dns", "9.9.9.9"},
		{"--dns", "9.9.9.9", "--net-rate", "100mbit", "--net-ingress", "50mbit", "--net", link},
	} {
		spec, _, _, err := parseSpec(args...)
		require.NoError(t, err)
		assert.Equal(t, want, spec.Network)
		require.NoError(t, spec.Network.Validate())
	}
	spec, _, _, err := parseSpec("--publish", "8080:80", "--net", "veth:ip=10.0.0.2/32", "--publish", "[2001:db8::1]:53/udp", "--isolated")
	require.NoError(t, err)
	assert.Equal(t, netns.Spec{Mode: netns.ModeNew, Isolated: true,
		Interfaces: []netns.Interface{{Kind: netns.Veth, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}}},
		Ports: []netns.Port{{Protocol: netns.TCP, Host: 8080, Sandbox: 80},
			{Protocol: netns.UDP, Host: 53, Sandbox: 53, Address: netip.MustParseAddr("2001:db8::1")}}}, spec.Network)
	assert.True(t, needsFirewall(spec.Network))
	spec, _, _, err = parseSpec("--net", "veth:bridge=br0", "--isolated")
	require.NoError(t, err)
	assert.False(t, needsFirewall(spec.Network), "the bridge does it")
	spec, _, _, err = parseSpec("--net", "veth:ip=10.0.0.2/32", "--net-priority", "2")
	require.NoError(t, err)
	assert.True(t, needsFirewall(spec.Network), "the kernel takes priorities away")
	spec, _, _, err = parseSpec("--publish", "80")
	require.NoError(t, err)
	require.Error(t, spec.Network.Validate(), "a port of what?")
	spec, _, _, err = parseSpec("--net", "join:web-1")
	require.NoError(t, err)
	assert.Equal(t, netns.Spec{Mode: netns.ModeJoin, Join: "web-1"}, spec.Network)
	spec, _, _, err = parseSpec("--net-priority", "2", "--net", "macvlan:parent=eth0,mode=private")
	require.NoError(t, err)
	assert.Equal(t, []netns.Interface{{Kind: netns.Macvlan, Parent: "eth0", Submode: "private",
		Bandwidth: netns.Bandwidth{Priority: netns.PriorityOf(2)}}}, spec.Network.Interfaces)
	for _, bad := range []string{
		"--net veth:bridge", "--net veth:bridge=", "--net veth:x=1", "--net veth:ip=10.0.0.2", "--net veth:mtu=a", "--net veth:gw=x",
		"--net join:", "--net tun:", "--net-rate 5", "--net-egress x", "--net-priority 16", "--dns x", "--publish x", "--publish 0", "--publish 80:",
	} {
		_, _, _, err := parseSpec(strings.Fields(bad)...)
		assert.Error(t, err, bad)
	}
}
