// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// awaitWarm waits for a namespace that was made ready like the last one.
func (l *lab) awaitWarm() {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		if len(l.warm.ready) < cap(l.warm.ready) {
			l.warm.wake()
			return false
		}
		p := l.warm.take()
		if p == nil {
			return false // dropped for a better one
		}
		like := p.like == l.warm.wanted()
		select {
		case l.warm.ready <- p:
		default: // there is another by now
			require.NoError(l.t, p.close())
		}
		return like
	}, testutil.Patience(10*time.Second), time.Millisecond)
}

func TestWarm(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Warm = 2 })
	l.bridge()
	for i := range 3 {
		spec := bridged()
		if i == 2 { // which lowers that of the bridge
			spec.Interfaces[0].Name, spec.Interfaces[0].MTU = "net0", 1300
		}
		l.awaitWarm()
		a := l.create(fmt.Sprint("w", i), spec)
		assert.NotZero(t, a.warm.machineIndex)
		link, err := a.Inside().Link(l.ctx, spec.Interfaces[0].name(0))
		require.NoError(t, err)
		want := 1500
		if i == 2 {
			want = 1300
		}
		assert.Equal(t, want, link.MTU)
		serve(t, a, "warm")
		reach(t, "machine", l.machine, a, "warm")
	}
	// Other kinds of networks take a prepared namespace, too.
	l.awaitWarm()
	a := l.create("lo", Spec{Mode: ModeNew})
	links, err := a.Inside().Links(l.ctx)
	require.NoError(t, err)
	require.Len(t, links, 1)
	assert.True(t, links[0].Up)
}

// What was made ready like one network serves any other as well: every network is
// as its spec says, whatever came before.
func TestWarmLike(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Warm = 1 })
	l.bridge()
	other := netlink.NewLinkAttrs()
	other.Name, other.MTU = "br1", 1280
	require.NoError(t, l.Machine().socket.LinkAdd(&netlink.Bridge{LinkAttrs: other}))
	limited := func(s Spec, rate uint64) Spec {
		s.Interfaces[0].Bandwidth = Bandwidth{Egress: BitsPerSecond(rate), Ingress: BitsPerSecond(2 * rate)}
		return s
	}
	isolated := bridged()
	isolated.Isolated = true
	elsewhere := Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Bridge: "br1", Name: "net0",
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}, Bandwidth: Bandwidth{Egress: BitsPerSecond(1e6)}}}}
	elsewhere.Sysctls = map[string]string{"net.ipv4.conf.net0.rp_filter": "2"}
	large := routed()
	large.Interfaces[0].MTU = 9000
	isolated.Interfaces[0].Bandwidth.Priority = PriorityOf(2)
	elsewhere.Interfaces[0].Bandwidth.Priority = PriorityOf(6)
	specs := []Spec{bridged(), limited(bridged(), 1e8), limited(bridged(), 3e8), isolated, elsewhere, large, routed()}
	strides := len(specs) // a prime, so that each comes after each other one
	if testutil.Emulated() {
		strides = 2
	}
	at := 0
	for stride := 1; stride < strides; stride++ {
		for range specs {
			before := at
			at = (at + stride) % len(specs)
			a, err := l.Create(l.ctx, "web", specs[at])
			what := fmt.Sprintf("%d after %d", at, before)
			require.NoError(t, err, what)
			if stride > 1 || before > 0 {
				l.as(a, what)
			}
			require.NoError(t, a.Close())
			require.NoError(t, l.Destroy(l.ctx, "web"))
			l.awaitWarm()
		}
	}

	// A bridge that is gone, and one that is another by now.
	a := l.create("web", bridged())
	l.awaitWarm()
	br0, err := l.Machine().socket.LinkByName("br0")
	require.NoError(t, err)
	require.NoError(t, l.Machine().socket.LinkDel(br0))
	_, err = l.Create(l.ctx, "late", bridged())
	assert.ErrorContains(t, err, "br0")
	l.bridge()
	require.NoError(t, a.Close())
	require.NoError(t, l.Destroy(l.ctx, "web"))
	require.Eventually(t, func() bool { l.warm.wake(); return len(l.warm.ready) > 0 }, testutil.Patience(10*time.Second), time.Millisecond)
	b := l.create("web", bridged())
	l.as(b, "a new bridge")
	serve(t, b, "b")
	reach(t, "machine", l.machine, b, "b")
}

// as says that a is what its spec describes.
func (l *lab) as(a *Attachment, what string) {
	l.t.Helper()
	require.NotZero(l.t, a.warm.insideIndex, what)
	spec, in := a.spec, a.spec.Interfaces[0]
	end, err := l.Machine().socket.LinkByName(a.plugs[0].machine)
	require.NoError(l.t, err, what)
	master, mtu := 0, in.MTU
	if in.Bridge != "" {
		bridge, err := l.Machine().socket.LinkByName(in.Bridge)
		require.NoError(l.t, err, what)
		master = bridge.Attrs().Index
		port, err := l.Machine().socket.LinkGetProtinfo(end)
		require.NoError(l.t, err, what)
		assert.Equal(l.t, spec.Isolated, port.Isolated, what)
		mtu = bridge.Attrs().MTU
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	assert.Equal(l.t, master, end.Attrs().MasterIndex, what)
	assert.Equal(l.t, "caisson test web", end.Attrs().Alias, what)
	inside, err := a.Inside().Link(l.ctx, in.name(0))
	require.NoError(l.t, err, what)
	assert.Equal(l.t, mtu, end.Attrs().MTU, what)
	assert.Equal(l.t, mtu, inside.MTU, what)
	assert.Equal(l.t, a.plugs[0].mac.String(), inside.MAC, what)
	assert.True(l.t, inside.Up, what)
	assert.Subset(l.t, inside.Addrs, in.Addrs, what)
	got, err := a.Bandwidth(l.ctx, "")
	require.NoError(l.t, err, what)
	want := Bandwidth{Egress: Unlimited(), Ingress: Unlimited(), Priority: DefaultPriority()}.Merge(in.Bandwidth)
	assert.Equal(l.t, want, got, what)
}

// Who comes and goes on a bridge does not change its address, which the others know.
func TestBridgeKeepsAddress(t *testing.T) {
	for _, warm := range []int{0, 2} {
		t.Run(fmt.Sprint(warm, " ready"), func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Warm = warm })
			l.bridge()
			address := func() string {
				bridge, err := l.Machine().Link(l.ctx, "br0")
				require.NoError(t, err)
				return bridge.MAC
			}
			before := address()
			require.NotEmpty(t, before)
			for i := range 3 {
				l.create(fmt.Sprint("w", i), bridged())
				assert.Equal(t, before, address(), "after %d", i)
				if warm > 0 {
					l.awaitWarm()
					assert.Equal(t, before, address(), "after the next was made ready")
				}
			}
			require.NoError(t, l.Destroy(l.ctx, "w0"))
			assert.Equal(t, before, address())
		})
	}
}

// A bridge whose last port has gone has no address at all.
func TestBridgeWithoutAddress(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	br0, err := l.Machine().socket.LinkByName("br0")
	require.NoError(t, err)
	nettest.Cable(t, "port", l.machine, nettest.Machine(t))
	port, err := l.Machine().socket.LinkByName("port")
	require.NoError(t, err)
	require.NoError(t, l.Machine().socket.LinkSetMaster(port, br0))
	require.NoError(t, l.Machine().socket.LinkDel(port))
	bridge, err := l.Machine().Link(l.ctx, "br0")
	require.NoError(t, err)
	require.Empty(t, bridge.MAC)
	a := l.create("a", bridged())
	serve(t, a, "a")
	reach(t, "machine", l.machine, a, "a")
	bridge, err = l.Machine().Link(l.ctx, "br0")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(bridge.MAC, "02:"), bridge.MAC)
}
