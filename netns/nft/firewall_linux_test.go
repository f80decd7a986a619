// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// lab is a machine of the test's own, another machine that is connected with it
// and knows no way to sandboxes, and a network with a firewall on the first.
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
	l.machine, l.other = nettest.Machine(t), nettest.Machine(t)
	nettest.Cable(t, "up0", l.machine, l.other)
	nettest.Up(t, l.machine, "up0", "192.0.2.1/24", "2001:db8::1/64")
	nettest.Up(t, l.other, "up0", "192.0.2.2/24", "2001:db8::2/64")
	nettest.Bridge(t, l.machine, "br0", "10.7.0.1/24", "fd07::1/64")
	nettest.Forward(t, l.machine)
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
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second)) // after a long test, too
		defer cancel()
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
	nettest.Serve(l.t, a.Namespace(), ":80", name)
	return a
}

// ask is the word of whom it reaches, and the address that this one sees.
func (l *lab) ask(from *namespaces.Handle, network, addr string) string {
	l.t.Helper()
	word, peer, err := nettest.Ask(from, network, addr, long)
	require.NoError(l.t, err)
	return word + " " + peer
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
						got, _, err := nettest.Ask(from, network, addr, long)
						if assert.NoError(t, err, "%s: %s %s", who, network, addr) {
							assert.Equal(t, name, got)
						}
					}
				}
			}
			// The sandbox sees who asks from outside.
			assert.Equal(t, name+" 192.0.2.2", l.ask(l.other, "tcp", "192.0.2.1:8080"))
			// The machine's loopback address is not published.
			_, _, err := nettest.Ask(l.machine, "tcp", "127.0.0.1:8080", long)
			assert.Error(t, err)
			// A port is one owner's.
			_, err = l.network.Create(l.ctx, "thief", netns.Spec{Mode: netns.ModeNew, Ports: []netns.Port{{Host: 8080, Sandbox: 81}},
				Interfaces: []netns.Interface{{Kind: netns.Veth, Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.99/32")}}}})
			assert.ErrorIs(t, err, os.ErrExist)

			require.NoError(t, web.Close())
			require.NoError(t, friend.Close())
			require.NoError(t, l.network.Destroy(l.ctx, name))
			require.NoError(t, l.network.Destroy(l.ctx, name+"-friend"))
			_, _, err = nettest.Ask(l.other, "tcp", "192.0.2.1:8080", long)
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
	assert.Equal(t, "web 192.0.2.2", l.ask(l.other, "tcp", "192.0.2.1:80"))
	_, _, err := nettest.Ask(l.other, "tcp", "[2001:db8::1]:80", long)
	assert.Error(t, err)
}

// What goes out has the machine's address; between sandboxes it has its own.
func TestMasquerade(t *testing.T) {
	l := newLab(t)
	a, b := l.sandbox("a", 10, true, nil), l.sandbox("b", 11, false, nil)
	nettest.Serve(t, l.other, ":80", "outside")
	for _, s := range []*netns.Attachment{a, b} {
		assert.Equal(t, "outside 192.0.2.1", l.ask(s.Namespace(), "tcp", "192.0.2.2:80"))
		assert.Equal(t, "outside 2001:db8::1", l.ask(s.Namespace(), "udp", "[2001:db8::2]:80"))
	}
	assert.Equal(t, "b 10.7.0.10", l.ask(a.Namespace(), "tcp", "10.8.0.11:80"))
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
					_, _, err := nettest.Ask(from.Namespace(), network, addr, short)
					assert.Error(t, err, "%s to %s", from.name, addr)
					continue
				}
				got, _, err := nettest.Ask(from.Namespace(), network, addr, long)
				if assert.NoError(t, err, "%s to %s", from.name, addr) {
					assert.Equal(t, to.name, got)
				}
			}
		}
		got, _, err := nettest.Ask(l.machine, "tcp", from.addrs[0], long)
		require.NoError(t, err)
		assert.Equal(t, from.name, got, "the machine reaches everybody")
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
	assert.Equal(t, "web 192.0.2.2", l.ask(l.other, "tcp", "192.0.2.1:8080"))

	// Somebody flushes everything; the next process makes it whole again.
	require.NoError(t, again.Delete(l.ctx))
	require.NoError(t, again.Close())
	_, _, err = nettest.Ask(l.other, "tcp", "192.0.2.1:8080", short)
	assert.Error(t, err)
	again, err = Open(l.ctx, l.cfg)
	require.NoError(t, err)
	defer again.Close()
	for range 2 { // and again changes nothing
		require.NoError(t, again.Set(l.ctx, "web", netns.Rules{Addrs: []netip.Addr{web.Addrs()[0].Addr()}, Ports: []netns.Port{{Host: 8080, Sandbox: 80}}}))
		assert.Equal(t, "web 192.0.2.2", l.ask(l.other, "tcp", "192.0.2.1:8080"))
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

// Networks with ports and isolation come and go, several at a time, and leave no
// rule. CAISSON_SOAK=2000 makes it as long as it has to be for a release.
func TestSoak(t *testing.T) {
	l := newLab(t)
	count, workers := testutil.Soak(48), 8
	if testutil.Emulated() {
		count = 16
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range count / workers {
				owner := "w" + strconv.Itoa(w)
				spec := netns.Spec{Mode: netns.ModeNew, Isolated: true, Ports: []netns.Port{{Host: uint16(8000 + w), Sandbox: 80}},
					Interfaces: []netns.Interface{{Kind: netns.Veth, Addrs: []netip.Prefix{
						netip.MustParsePrefix("10.8.1." + strconv.Itoa(w+1) + "/32"), netip.MustParsePrefix("fd08::1:" + strconv.Itoa(w+1) + "/128")}}}}
				if i%2 == 1 {
					spec.Interfaces[0].Bridge = "br0"
				}
				a, err := l.network.Create(context.Background(), owner, spec)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, a.Close())
				assert.NoError(t, l.network.Destroy(context.Background(), owner))
			}
		})
	}
	wg.Wait()
	left, err := l.firewall.of(func(string) bool { return true })
	require.NoError(t, err)
	assert.Empty(t, left)
	links, err := l.network.Machine().Links(context.Background())
	require.NoError(t, err)
	assert.Len(t, links, 3, "lo, up0, br0")
}

// A kernel without nftables, or without a module of it, is "not supported"; what is
// forbidden or taken is not.
func TestExplain(t *testing.T) {
	for op, errnos := range map[string][]syscall.Errno{
		"open": {syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT, syscall.EINVAL},
		"make": {syscall.EOPNOTSUPP, syscall.ENOENT},
	} {
		for _, errno := range errnos {
			err := explain(op, errno)
			assert.ErrorIs(t, err, netns.ErrNotSupported, "%s: %v", op, errno)
			assert.ErrorIs(t, err, errno)
		}
	}
	for _, err := range []error{explain("open", syscall.EPERM), explain("set rules of web", syscall.ENOENT), explain("make", syscall.EEXIST)} {
		assert.NotErrorIs(t, err, netns.ErrNotSupported)
	}
	assert.ErrorIs(t, explain("open", syscall.EPERM), os.ErrPermission)
	assert.NoError(t, explain("make", nil))
}
