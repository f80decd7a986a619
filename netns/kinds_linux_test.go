// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// hardware makes a link of the machine that stands for a network card.
func (l *lab) hardware(name string) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	card := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "-cable"}
	require.NoError(l.t, l.Machine().socket.LinkAdd(card))
	for _, end := range []string{name, name + "-cable"} {
		require.NoError(l.t, l.Machine().SetUp(l.ctx, end))
	}
	return card
}

func TestLoopbackOnly(t *testing.T) {
	l := newLab(t, nil)
	a := l.create("lo", Spec{Mode: ModeNew})
	nettest.Serve(t, a.Namespace(), "127.0.0.1:80", "lo")
	got, _, err := nettest.Ask(a.Namespace(), "tcp", "127.0.0.1:80", testutil.Patience(5*time.Second))
	require.NoError(t, err)
	assert.Equal(t, "lo", got)
	assert.Empty(t, a.Interfaces())
	_, err = a.plugNamed("")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.Empty(t, l.links())
}

// Two sandboxes on one parent reach each other.
func TestChildren(t *testing.T) {
	for _, kind := range []LinkKind{Macvlan, IPVlan} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t, nil)
			l.hardware("up0")
			spec := func(addrs ...string) Spec {
				in := Interface{Kind: kind, Parent: "up0", MTU: 1400, Bandwidth: Bandwidth{Egress: BitsPerSecond(1e9)}}
				for _, a := range addrs {
					in.Addrs = append(in.Addrs, netip.MustParsePrefix(a))
				}
				return Spec{Mode: ModeNew, Interfaces: []Interface{in}}
			}
			a, err := l.Create(l.ctx, "a", spec("10.7.1.2/24", "fd08::2/64"))
			if errors.Is(err, ErrNotSupported) {
				l.nothing("up0", "up0-cable")
				testutil.Skip(t, testutil.Requirement(kind), "%v", err)
			}
			require.NoError(t, err)
			defer a.Close()
			b := l.create("b", spec("10.7.1.3/24", "fd08::3/64"))
			serve(t, b, "b")
			reach(t, "a to b", a.Namespace(), b, "b")
			link, err := a.Inside().Link(l.ctx, "eth0")
			require.NoError(t, err)
			assert.Equal(t, string(kind), link.Kind)
			assert.Equal(t, 1400, link.MTU)
			assert.ErrorIs(t, a.SetBandwidth(l.ctx, "", Bandwidth{Ingress: BitsPerSecond(1e9)}), ErrNotSupported)
			require.NoError(t, a.Close())
			require.NoError(t, l.Destroy(l.ctx, "a"))
			require.NoError(t, l.Destroy(l.ctx, "b"))
			l.nothing("up0", "up0-cable")
		})
	}
}

// A link of the machine goes into the sandbox and comes back as it was, also
// after a crash (fault 6).
func TestPhysical(t *testing.T) {
	l := newLab(t, nil)
	l.hardware("hw0")
	mac, err := l.Machine().Link(l.ctx, "hw0")
	require.NoError(t, err)
	spec := Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Physical, Parent: "hw0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.7.2.2/24")}}}}
	for _, crash := range []bool{false, true} {
		a := l.create("a", spec)
		assert.Equal(t, []string{"hw0-cable"}, l.links())
		link, err := a.Inside().Link(l.ctx, "eth0")
		require.NoError(t, err)
		assert.True(t, link.Up)
		assert.Equal(t, mac.MAC, link.MAC)
		require.NoError(t, a.Close())
		if crash {
			removed, err := l.Sweep(l.ctx, func(string) bool { return false })
			require.NoError(t, err)
			assert.Equal(t, []string{"a"}, removed)
		} else {
			require.NoError(t, l.Destroy(l.ctx, "a"))
		}
		back, err := l.Machine().Link(l.ctx, "hw0")
		require.NoError(t, err)
		assert.True(t, back.Up)
		assert.Equal(t, mac.MAC, back.MAC)
		end, err := l.Machine().socket.LinkByName("hw0")
		require.NoError(t, err)
		assert.Empty(t, end.Attrs().Alias)
		assert.NoFileExists(t, filepath.Join(l.moved, "a"))
	}
	// Two sandboxes cannot have it.
	l.create("a", spec)
	_, err = l.Create(l.ctx, "b", spec)
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, l.Destroy(l.ctx, "a"))
	l.nothing("hw0", "hw0-cable")
}

// What a kernel answers that lacks the module of a link, a queue or a filter is "not
// supported", and what is refused for another reason is not.
func TestNoKind(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	s := l.Machine().socket
	br0, err := s.LinkByName("br0")
	require.NoError(t, err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "x0"
	queue := netlink.QdiscAttrs{LinkIndex: br0.Attrs().Index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT}
	for what, err := range map[string]error{
		"link":  s.LinkAdd(&netlink.GenericLink{LinkAttrs: attrs, LinkType: "nosuchkind"}),
		"queue": s.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: queue, QdiscType: "nosuchkind"}),
	} {
		require.Error(t, err, what)
		err = noKind(what, err)
		assert.ErrorIs(t, err, ErrNotSupported, what)
		var missing *namespaces.UnsupportedError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, what, missing.Feature)
	}
	assert.NoError(t, noKind("link", nil))
	for _, other := range []error{syscall.EPERM, syscall.EEXIST, syscall.EBUSY} {
		assert.NotErrorIs(t, noKind("link", other), ErrNotSupported)
	}
	// The rest works.
	a := l.create("web", bridged())
	serve(t, a, "web")
	reach(t, "machine", l.machine, a, "web")
}
