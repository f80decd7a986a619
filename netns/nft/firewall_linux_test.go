// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"io"
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
	"github.com/caisson-run/caisson/netns"
	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// lab is a machine of the test's own, another machine that is connected with it,
// and a network with a firewall on the first.
type lab struct {
	t              *testing.T
	ctx            context.Context
	machine, other *namespaces.Handle
	firewall       *Firewall
	network        *netns.Network
	cfg            Config
}

func newLab(t *testing.T) *lab {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.NetAdmin)
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second))
	t.Cleanup(cancel)
	l := &lab{t: t, ctx: ctx}
	for _, ns := range []**namespaces.Handle{&l.machine, &l.other} {
		made, err := namespaces.Create(namespaces.Network)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, made.Close()) })
		*ns = made
	}
	l.wire()
	l.cfg = Config{Scope: "test", Machine: l.machine, Masquerade: true}
	firewall, err := Open(ctx, l.cfg)
	if errors.Is(err, netns.ErrNotSupported) {
		testutil.Skip(t, "nftables", "%v", err)
	}
	require.NoError(t, err)
	l.firewall = firewall
	dir := t.TempDir()
	l.network, err = netns.OpenNetwork(ctx, netns.Config{
		Scope: "test", Machine: l.machine, Pins: filepath.Join(dir, "pins"), State: filepath.Join(dir, "state"), Firewall: firewall,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := l.network.Sweep(ctx, func(string) bool { return false })
		assert.NoError(t, err)
		owners, err := firewall.Owners(ctx)
		assert.NoError(t, err)
		assert.Empty(t, owners)
		assert.NoError(t, l.network.Pins().Discard())
		assert.NoError(t, l.network.Close())
		assert.NoError(t, firewall.Delete(ctx))
		assert.NoError(t, firewall.Delete(ctx), "again")
		assert.NoError(t, firewall.Close())
		assert.NoError(t, firewall.Close(), "again")
	})
	return l
}

// wire connects the two machines: 192.0.2.1 and 2001:db8::1 on the one with the
// sandboxes, .2 and ::2 on the other, which knows no way to sandboxes.
func (l *lab) wire() {
	in := func(ns *namespaces.Handle, f func() error) { require.NoError(l.t, namespaces.Do(f, ns)) }
	in(l.machine, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "up0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(l.other.FD())})
	})
	for i, ns := range []*namespaces.Handle{l.machine, l.other} {
		in(ns, func() error {
			for _, link := range []string{"default", "up0"} { // no wait for the first neighbors
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/accept_dad", []byte("0"), 0); err != nil {
					return err
				}
			}
			if i == 0 {
				for path, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"} {
					if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
						return err
					}
				}
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "br0"
				if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
					return err
				}
			}
			for name, addrs := range map[string][]string{
				"lo": nil, "up0": {"192.0.2." + strconv.Itoa(i+1) + "/24", "2001:db8::" + strconv.Itoa(i+1) + "/64"},
				"br0": {"10.7.0.1/24", "fd07::1/64"},
			} {
				link, err := netlink.LinkByName(name)
				if err != nil {
					if name == "br0" && i == 1 {
						continue
					}
					return err
				}
				for _, a := range addrs {
					addr, err := netlink.ParseAddr(a)
					if err != nil {
						return err
					}
					addr.Flags = 2 // IFA_F_NODAD
					if err := netlink.AddrAdd(link, addr); err != nil {
						return err
					}
				}
				if err := netlink.LinkSetUp(link); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// sandbox makes one: host is the last part of its addresses, of 10.7.0.0/24 on
// the bridge or of 10.8.0.0/24 routed.
func (l *lab) sandbox(name string, host int, bridge bool, change func(*netns.Spec)) *netns.Attachment {
	in := netns.Interface{Kind: netns.Veth, Addrs: []netip.Prefix{
		netip.MustParsePrefix("10.8.0." + strconv.Itoa(host) + "/32"), netip.MustParsePrefix("fd08::" + strconv.Itoa(host) + "/128"),
	}}
	if bridge {
		in = netns.Interface{Kind: netns.Veth, Bridge: "br0", Addrs: []netip.Prefix{
			netip.MustParsePrefix("10.7.0." + strconv.Itoa(host) + "/24"), netip.MustParsePrefix("fd07::" + strconv.Itoa(host) + "/64"),
		}, Gateways: []netip.Addr{netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("fd07::1")}}
	}
	spec := netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{in}}
	if change != nil {
		change(&spec)
	}
	a, err := l.network.Create(l.ctx, name, spec)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { assert.NoError(l.t, a.Close()) })
	serve(l.t, a.Namespace(), name)
	return a
}

// serve answers on port 80 with word, and whom it talks to.
func serve(t *testing.T, ns *namespaces.Handle, word string) {
	require.NoError(t, namespaces.Do(func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		c, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _, _ = l.Close(), c.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, word+" "+conn.RemoteAddr().(*net.TCPAddr).IP.String())
				_ = conn.Close()
			}
		}()
		go func() {
			buf := make([]byte, 10)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(word+" "+from.(*net.UDPAddr).IP.String()), from)
			}
		}()
		return nil
	}, ns))
}

func ask(from *namespaces.Handle, network, addr string, patience time.Duration) (text string, err error) {
	err = namespaces.Do(func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if network == "udp" {
			if _, err := io.WriteString(c, "x"); err != nil {
				return err
			}
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		text = string(buf[:n])
		return err
	}, from)
	return text, err
}

var long = testutil.Patience(5 * time.Second)

// short is long enough for an answer that will not come: those that do, take a
// few milliseconds.
var short = max(150*time.Millisecond, testutil.Patience(40*time.Millisecond))

// Published ports are reached from everywhere, by both protocols and families.
func TestPublish(t *testing.T) {
	l := newLab(t)
	publish := func(s *netns.Spec) {
		s.Ports = []netns.Port{{Host: 8080, Sandbox: 80}, {Protocol: netns.UDP, Host: 8080, Sandbox: 80}}
	}
	for i, bridge := range []bool{true, false} {
		name := []string{"bridged", "routed"}[i]
		t.Run(name, func(t *testing.T) {
			web := l.sandbox(name, 10, bridge, publish)
			friend := l.sandbox(name+"-friend", 11, bridge, nil)
			for who, from := range map[string]*namespaces.Handle{
				"the other machine": l.other, "the machine itself": l.machine, "another sandbox": friend.Namespace(), "itself": web.Namespace(),
			} {
				for _, addr := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
					for _, network := range []string{"tcp", "udp"} {
						got, err := ask(from, network, addr, long)
						if assert.NoError(t, err, "%s: %s %s", who, network, addr) {
							assert.True(t, strings.HasPrefix(got, name+" "), got)
						}
					}
				}
			}
			// The sandbox sees who asks from outside.
			got, err := ask(l.other, "tcp", "192.0.2.1:8080", long)
			require.NoError(t, err)
			assert.Equal(t, name+" 192.0.2.2", got)
			// The machine's loopback address is not published.
			_, err = ask(l.machine, "tcp", "127.0.0.1:8080", long)
			assert.Error(t, err)
			// A port is one owner's.
			_, err = l.network.Create(l.ctx, "thief", netns.Spec{Mode: netns.ModeNew, Ports: []netns.Port{{Host: 8080, Sandbox: 81}},
				Interfaces: []netns.Interface{{Kind: netns.Veth, Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.99/32")}}}})
			assert.ErrorIs(t, err, os.ErrExist)

			require.NoError(t, web.Close())
			require.NoError(t, friend.Close())
			require.NoError(t, l.network.Destroy(l.ctx, name))
			require.NoError(t, l.network.Destroy(l.ctx, name+"-friend"))
			_, err = ask(l.other, "tcp", "192.0.2.1:8080", long)
			assert.Error(t, err, "no longer published")
		})
	}
}

// A port of one of the machine's addresses only.
func TestPublishAt(t *testing.T) {
	l := newLab(t)
	l.sandbox("web", 10, false, func(s *netns.Spec) {
		s.Ports = []netns.Port{{Host: 80, Address: netip.MustParseAddr("192.0.2.1")}, {Host: 80, Address: netip.MustParseAddr("fd07::1")}}
	})
	got, err := ask(l.other, "tcp", "192.0.2.1:80", long)
	require.NoError(t, err)
	assert.Equal(t, "web 192.0.2.2", got)
	_, err = ask(l.other, "tcp", "[2001:db8::1]:80", long)
	assert.Error(t, err)
}

// What goes out has the machine's address; between sandboxes it has its own.
func TestMasquerade(t *testing.T) {
	l := newLab(t)
	a, b := l.sandbox("a", 10, true, nil), l.sandbox("b", 11, false, nil)
	serve(t, l.other, "outside")
	for _, s := range []*netns.Attachment{a, b} {
		got, err := ask(s.Namespace(), "tcp", "192.0.2.2:80", long)
		require.NoError(t, err)
		assert.Equal(t, "outside 192.0.2.1", got)
		got, err = ask(s.Namespace(), "udp", "[2001:db8::2]:80", long)
		require.NoError(t, err)
		assert.Equal(t, "outside 2001:db8::1", got)
	}
	got, err := ask(a.Namespace(), "tcp", "10.8.0.11:80", long)
	require.NoError(t, err)
	assert.Equal(t, "b 10.7.0.10", got)
}

// Who is isolated is reached by nobody who is, and by everybody else; on one
// bridge, over routes, and from one to the other.
func TestIsolation(t *testing.T) {
	l := newLab(t)
	apart := func(s *netns.Spec) { s.Isolated = true }
	type box struct {
		name    string
		addrs   []string
		isolate bool
		*netns.Attachment
	}
	var all []box
	for i, bridge := range []bool{true, true, true, false, false, false} {
		b := box{name: "s" + strconv.Itoa(i), isolate: i%3 != 2}
		change := apart
		if !b.isolate {
			change = nil
		}
		b.Attachment = l.sandbox(b.name, 10+i, bridge, change)
		for _, p := range b.Addrs() {
			b.addrs = append(b.addrs, net.JoinHostPort(p.Addr().String(), "80"))
		}
		all = append(all, b)
	}
	for _, from := range all {
		for _, to := range all {
			if from.name == to.name {
				continue
			}
			for i, addr := range to.addrs {
				network := []string{"tcp", "udp"}[i]
				if from.isolate && to.isolate {
					_, err := ask(from.Namespace(), network, addr, short)
					assert.Error(t, err, "%s to %s", from.name, addr)
					continue
				}
				got, err := ask(from.Namespace(), network, addr, long)
				if assert.NoError(t, err, "%s to %s", from.name, addr) {
					assert.True(t, strings.HasPrefix(got, to.name+" "), got)
				}
			}
		}
		got, err := ask(l.machine, "tcp", from.addrs[0], long)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(got, from.name+" "), "the machine reaches everybody")
	}
}

// Nothing of other tables is changed, another process takes the table over, and
// rules that somebody took away come back (faults 6, 11 and 53).
func TestReopen(t *testing.T) {
	l := newLab(t)
	var theirs *nftables.Conn
	require.NoError(t, namespaces.Do(func() (err error) {
		theirs, err = nftables.New(nftables.AsLasting())
		return err
	}, l.machine))
	defer theirs.CloseLasting()
	theirs.AddChain(&nftables.Chain{Name: "c", Table: theirs.AddTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})})
	require.NoError(t, theirs.Flush())
	spec := func(s *netns.Spec) { s.Ports = []netns.Port{{Host: 8080, Sandbox: 80}} }
	web := l.sandbox("web", 10, true, spec)

	again, err := Open(l.ctx, l.cfg)
	require.NoError(t, err)
	owners, err := again.Owners(l.ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, owners)
	got, err := ask(l.other, "tcp", "192.0.2.1:8080", long)
	require.NoError(t, err)
	assert.Equal(t, "web 192.0.2.2", got)

	// Somebody flushes everything; the next process makes it whole again.
	require.NoError(t, again.Delete(l.ctx))
	require.NoError(t, again.Close())
	_, err = ask(l.other, "tcp", "192.0.2.1:8080", short)
	assert.Error(t, err)
	again, err = Open(l.ctx, l.cfg)
	require.NoError(t, err)
	defer again.Close()
	for range 2 { // and again changes nothing
		require.NoError(t, again.Set(l.ctx, "web", netns.Rules{Addrs: []netip.Addr{web.Addrs()[0].Addr()}, Ports: []netns.Port{{Host: 8080, Sandbox: 80}}}))
		got, err = ask(l.other, "tcp", "192.0.2.1:8080", long)
		require.NoError(t, err)
		assert.Equal(t, "web 192.0.2.2", got)
	}
	chains, err := theirs.ListChains()
	require.NoError(t, err)
	found := false
	for _, c := range chains {
		found = found || c.Table.Name == "theirs"
	}
	assert.True(t, found)
	require.NoError(t, again.Remove(l.ctx, "web"))
	require.NoError(t, again.Remove(l.ctx, "web"), "again")
	ended, cancel := context.WithCancel(l.ctx)
	cancel()
	assert.ErrorIs(t, again.Remove(ended, "web"), context.Canceled)
	require.NoError(t, again.Close())
	assert.ErrorIs(t, again.Remove(l.ctx, "web"), os.ErrClosed)
	_, err = Open(l.ctx, Config{Scope: "../x"})
	assert.ErrorIs(t, err, netns.ErrInvalid)
}
