// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// lab is a machine of the test's own: a network namespace, with a Network on it.
type lab struct {
	*Network
	t       testing.TB
	ctx     context.Context
	machine *namespaces.Handle
	cfg     Config
}

var (
	pool4 = PoolConfig{Name: "four", Subnet: netip.MustParsePrefix("10.7.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1"), Link: "br0"}
	pool6 = PoolConfig{Name: "six", Subnet: netip.MustParsePrefix("fd07::/64"), Gateway: netip.MustParseAddr("fd07::1"), Link: "br0"}
)

func newLab(t testing.TB, change func(*Config)) *lab {
	ctx := root(t)
	machine := nettest.Machine(t)
	dir := t.TempDir()
	l := &lab{t: t, ctx: ctx, machine: machine, cfg: Config{
		Scope: "test", Machine: machine, Pins: filepath.Join(dir, "pins"), State: filepath.Join(dir, "state"),
		Pools: []PoolConfig{pool4, pool6},
	}}
	if change != nil {
		change(&l.cfg)
	}
	var err error
	l.Network, err = OpenNetwork(ctx, l.cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second)) // after a long test, too
		defer cancel()
		removed, err := l.Sweep(ctx, func(string) bool { return false })
		assert.NoError(t, err, "%v", removed)
		owners, err := l.Owners(ctx)
		assert.NoError(t, err)
		assert.Empty(t, owners)
		assert.NoError(t, l.Pins().Discard())
		assert.NoError(t, l.Close())
	})
	return l
}

// bridge makes br0 with the gateways' addresses.
func (l *lab) bridge() { nettest.Bridge(l.t, l.machine, "br0", "10.7.0.1/24", "fd07::1/64") }

// create makes a network that is destroyed when the test ends.
func (l *lab) create(owner string, spec Spec) *Attachment {
	a, err := l.Create(l.ctx, owner, spec)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { assert.NoError(l.t, a.Close()) })
	return a
}

func bridged() Spec {
	return Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Bridge: "br0", Pools: []string{"four", "six"}}}}
}

func routed() Spec {
	return Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Pools: []string{"four", "six"}}}}
}

func at(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// reach says that everybody in from reaches port 80 of a, by both families and
// protocols.
func reach(t *testing.T, what string, from *namespaces.Handle, a *Attachment, word string) {
	t.Helper()
	require.NotEmpty(t, a.Addrs())
	for _, addr := range a.Addrs() {
		for _, network := range []string{"tcp", "udp"} {
			got, _, err := nettest.Ask(from, network, at(addr.Addr(), 80), testutil.Patience(5*time.Second))
			if assert.NoError(t, err, "%s: %s %s", what, network, addr) {
				assert.Equal(t, word, got)
			}
		}
	}
}

func serve(t *testing.T, a *Attachment, word string) {
	for _, addr := range a.Addrs() {
		nettest.Serve(t, a.Namespace(), at(addr.Addr(), 80), word)
	}
}

// Everybody reaches everybody, over a bridge and over routes.
func TestReachability(t *testing.T) {
	for name, spec := range map[string]Spec{"bridged": bridged(), "routed": routed()} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			if name == "bridged" {
				l.bridge()
			} else {
				nettest.Forward(t, l.machine)
				// The machine speaks from an address of its own.
				nettest.Up(t, l.machine, Loopback, "192.0.2.1/32", "2001:db8::1/128")
			}
			a, b := l.create("a", spec), l.create("b", spec)
			serve(t, a, "a")
			serve(t, b, "b")
			reach(t, "a to b", a.Namespace(), b, "b")
			reach(t, "b to a", b.Namespace(), a, "a")
			reach(t, "a to itself", a.Namespace(), a, "a")
			reach(t, "machine to a", l.machine, a, "a")
			nettest.Serve(t, l.machine, ":80", "machine")
			up := []string{"192.0.2.1", "2001:db8::1"}
			if name == "bridged" {
				up = []string{"10.7.0.1", "fd07::1"}
			}
			for _, addr := range up {
				got, _, err := nettest.Ask(a.Namespace(), "tcp", net.JoinHostPort(addr, "80"), testutil.Patience(5*time.Second))
				require.NoError(t, err, addr)
				assert.Equal(t, "machine", got)
			}
		})
	}
}

func TestCreateDetails(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	spec := bridged()
	in := &spec.Interfaces[0]
	in.Name, in.MTU, in.MAC = "net0", 1400, "02:11:22:33:44:55"
	in.Addrs = []netip.Prefix{netip.MustParsePrefix("172.30.0.5/24")}
	in.Routes = []Route{{To: netip.MustParsePrefix("10.99.0.0/16"), Via: netip.MustParseAddr("172.30.0.1")}, {To: netip.MustParsePrefix("10.98.0.0/16")}}
	spec.Sysctls = map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "80", "net.ipv4.conf.net0.rp_filter": "2", "net/ipv6/conf/net0/accept_ra": "0",
	}
	a := l.create("web", spec)
	links, err := a.Inside().Links(l.ctx)
	require.NoError(t, err)
	require.Len(t, links, 2)
	assert.True(t, links[0].Up)
	eth := links[1]
	assert.Equal(t, "net0", eth.Name)
	assert.Equal(t, 1400, eth.MTU)
	assert.Equal(t, in.MAC, eth.MAC)
	assert.True(t, eth.Up)
	require.Eventually(t, func() bool {
		eth, err := a.Inside().Link(l.ctx, "net0")
		return assert.NoError(t, err) && eth.Running
	}, testutil.Patience(5*time.Second), time.Millisecond, "the kernel notices a carrier a moment later")
	for _, want := range []string{"172.30.0.5/24", "10.7.0.2/24", "fd07::2/64"} {
		assert.Contains(t, eth.Addrs, netip.MustParsePrefix(want))
	}
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("172.30.0.5/24"), netip.MustParsePrefix("10.7.0.2/24"), netip.MustParsePrefix("fd07::2/64")}, a.Addrs())
	routes, err := a.Inside().socket.RouteList(nil, netlink.FAMILY_V4)
	require.NoError(t, err)
	var text []string
	for _, r := range routes {
		text = append(text, r.Dst.String()+" "+r.Gw.String())
	}
	assert.Subset(t, text, []string{"0.0.0.0/0 10.7.0.1", "10.99.0.0/16 172.30.0.1", "10.98.0.0/16 <nil>"})
	require.NoError(t, namespaces.Do(func() error {
		for path, want := range map[string]string{"net/ipv4/ip_unprivileged_port_start": "80", "net/ipv4/conf/net0/rp_filter": "2", "net/ipv6/conf/net0/accept_ra": "0"} {
			got, err := os.ReadFile("/proc/sys/" + path)
			if err != nil {
				return err
			}
			assert.Equal(t, want+"\n", string(got), path)
		}
		return nil
	}, a.Namespace()))

	// The machine's end is recognisable.
	end, err := l.Machine().socket.LinkByName(a.Interfaces()[0].Machine)
	require.NoError(t, err)
	assert.Equal(t, "caisson test web", end.Attrs().Alias)
	assert.True(t, strings.HasPrefix(end.Attrs().Name, linkPrefix))

	// There is one network of an owner, which another process finds again.
	_, err = l.Create(l.ctx, "web", spec)
	assert.ErrorIs(t, err, os.ErrExist)
	other, err := OpenNetwork(l.ctx, l.cfg)
	require.NoError(t, err)
	defer other.Close()
	b, err := other.Open(l.ctx, "web", spec)
	require.NoError(t, err)
	defer b.Close()
	assert.Equal(t, a.Namespace().ID(), b.Namespace().ID())
	assert.ElementsMatch(t, a.Addrs(), b.Addrs())
	assert.Equal(t, a.Interfaces()[0].Machine, b.Interfaces()[0].Machine)
	_, err = other.Open(l.ctx, "nobody", spec)
	assert.ErrorIs(t, err, os.ErrNotExist)

	join, err := other.Open(l.ctx, "friend", Spec{Mode: ModeJoin, Join: "web"})
	require.NoError(t, err)
	defer join.Close()
	assert.Equal(t, a.Namespace().ID(), join.Namespace().ID())
	byPath, err := other.Open(l.ctx, "friend", Spec{Mode: ModeJoin, Join: filepath.Join(l.cfg.Pins, "caisson-test-web")})
	require.NoError(t, err)
	defer byPath.Close()
	assert.Equal(t, a.Namespace().ID(), byPath.Namespace().ID())
	host, err := other.Open(l.ctx, "friend", Spec{Mode: ModeHost})
	require.NoError(t, err)
	defer host.Close()
	assert.Equal(t, l.machine.ID(), host.Namespace().ID())
}
