// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// uplink is the link that sandboxes share, with the queue that the kernel gives to
// hardware behind a rate.
type uplink struct {
	t     *testing.T
	l     *lab
	index int
}

func newUplink(t *testing.T, l *lab) *uplink {
	u := &uplink{t: t, l: l}
	require.NoError(t, namespaces.Do(func() error {
		link, err := netlink.LinkByName("up0")
		if err == nil {
			u.index = link.Attrs().Index
		}
		return err
	}, l.machine))
	u.limit(1e8, (*netlink.Handle).QdiscAdd)
	u.do(func(s *netlink.Handle) error {
		return s.QdiscAdd(&netlink.GenericQdisc{QdiscType: "pfifo_fast", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: u.index, Handle: netlink.MakeHandle(2, 0), Parent: netlink.MakeHandle(1, 1)}})
	})
	return u
}

func (u *uplink) do(f func(*netlink.Handle) error) {
	u.t.Helper()
	require.NoError(u.t, namespaces.Do(func() error {
		s, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer s.Close()
		return f(s)
	}, u.l.machine))
}

// limit sets the rate in bytes a second; what passes at once is one packet, or what
// passes in a millisecond.
func (u *uplink) limit(rate uint64, set func(*netlink.Handle, netlink.Qdisc) error) {
	u.t.Helper()
	burst := max(1600, rate/1000)
	u.do(func(s *netlink.Handle) error {
		return set(s, &netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: u.index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: 1 << 20, Buffer: uint32(burst * 1e9 / 64 / rate),
		})
	})
}

// dial is a way to send packets from a sandbox.
func (u *uplink) dial(from *namespaces.Handle, addr string) *net.UDPConn {
	var c net.Conn
	require.NoError(u.t, namespaces.Do(func() (err error) {
		c, err = net.Dial("udp", addr)
		return err
	}, from))
	u.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UDPConn)
}

// overtakes returns how many packets of the flood, which was in the queue before, came
// out before the one that is urgent.
func (u *uplink) overtakes(flood, urgent *net.UDPConn, in net.PacketConn) (before int) {
	u.t.Helper()
	say := func(c net.Conn, what string, size int) {
		_, err := c.Write(append([]byte(what), make([]byte, size)...))
		require.NoError(u.t, err)
	}
	u.limit(600, (*netlink.Handle).QdiscChange) // bytes a second: one packet passes, and the next in two seconds
	for range flooded {
		say(flood, "flood", 1400)
	}
	say(urgent, "urgent", 0)
	u.limit(1e8, (*netlink.Handle).QdiscChange)
	say(flood, "end", 0) // the queue looks at its new rate when something comes
	buf := make([]byte, 2000)
	require.NoError(u.t, in.SetReadDeadline(time.Now().Add(testutil.Patience(10*time.Second))))
	seen := -1
	for n := 0; ; n++ {
		size, _, err := in.ReadFrom(buf)
		require.NoError(u.t, err)
		switch word := string(buf[:min(size, 6)]); {
		case word == "urgent":
			seen = n
		case word[:3] == "end":
			assert.Equal(u.t, flooded+1, n, "nothing was lost")
			return seen
		}
	}
}

const flooded = 20

// On a link that is full the packets of sandboxes leave by priority: whether they are
// forwarded by a bridge or by the machine, from a bridge or from a veth with routes, with
// their own address or the machine's. It is changed while they send, and who may choose
// the TOS of his packets does not choose that.
func TestPriority(t *testing.T) {
	l := newLab(t)
	pair := func(kind string, host int, bridge bool) [2]*netns.Attachment {
		return [2]*netns.Attachment{l.sandbox(kind+"-batch", host, bridge, nil), l.sandbox(kind+"-web", host+1, bridge, nil)}
	}
	bridged, routed := pair("bridged", 10, true), pair("routed", 12, false)
	u := newUplink(t, l)
	u.play("forwarded from a bridge", bridged, "192.0.2.2:9", "[2001:db8::2]:9")
	u.play("routed", routed, "192.0.2.2:9", "[2001:db8::2]:9")
	nettest.Up(t, l.other, "up0", "10.7.0.254/24", "fd07::254/64")
	u.do(func(s *netlink.Handle) error {
		br, err := s.LinkByName("br0")
		if err != nil {
			return err
		}
		return s.LinkSetMasterByIndex(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: u.index}}, br.Attrs().Index)
	})
	u.play("bridged", bridged, "10.7.0.254:9", "[fd07::254]:9")
}

// What was masqueraded is in the class of a shaper that the priority leads to.
func TestPriorityOfClass(t *testing.T) {
	l := newLab(t)
	s, err := netns.OpenShaper(l.ctx, l.network.Machine(), netns.ShaperConfig{Link: "up0", Rate: netns.BitsPerSecond(1e9)})
	if errors.Is(err, netns.ErrNotSupported) {
		testutil.Skip(t, "htb", "%v", err)
	}
	require.NoError(t, err)
	require.NoError(t, s.Set(l.ctx, netns.Class{ID: 2, Rate: netns.BitsPerSecond(1e8)}))
	web := l.sandbox("web", 10, true, func(spec *netns.Spec) { spec.Interfaces[0].Bandwidth.Priority = s.Priority(2) })
	nettest.Serve(t, l.other, "192.0.2.2:80", "other")
	assert.Equal(t, "other 192.0.2.1", l.ask(web.Namespace(), "udp", "192.0.2.2:80"))
	var q netns.Queue
	require.NoError(t, s.Stat(2, &q))
	assert.Positive(t, q.Packets)
	require.NoError(t, s.Delete(l.ctx))
}

// Two processes that change a sandbox's priorities in turn do not undo each other's.
func TestPriorityOfTwo(t *testing.T) {
	l := newLab(t)
	var spec netns.Spec
	a := l.sandbox("web", 10, false, func(s *netns.Spec) {
		s.Interfaces = append(s.Interfaces, netns.Interface{Kind: netns.Veth, Bridge: "br0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.7.0.11/24")}})
		s.Interfaces[0].Addrs = s.Interfaces[0].Addrs[:1]
		spec = *s
	})
	err := a.SetBandwidth(l.ctx, "eth0", netns.Bandwidth{Priority: netns.PriorityOf(2)})
	if errors.Is(err, netns.ErrNotSupported) {
		testutil.Skip(t, "cls_bpf", "%v", err)
	}
	require.NoError(t, err)
	b, err := l.network.Open(l.ctx, "web", spec)
	require.NoError(t, err)
	defer b.Close()
	assert.Equal(t, map[string]uint32{"10.8.0.10": 2}, l.priorities(), "found as it is")
	require.NoError(t, b.SetBandwidth(l.ctx, "eth1", netns.Bandwidth{Priority: netns.PriorityOf(6)}))
	require.NoError(t, a.SetBandwidth(l.ctx, "eth0", netns.Bandwidth{Priority: netns.PriorityOf(7)}))
	assert.Equal(t, map[string]uint32{"10.8.0.10": 7, "10.7.0.11": 6}, l.priorities())
}

// priorities are those of the firewall, by address.
func (l *lab) priorities() map[string]uint32 {
	l.t.Helper()
	all, err := l.firewall.of(func(string) bool { return true })
	require.NoError(l.t, err)
	got := map[string]uint32{}
	for _, e := range all {
		if e.set == priority4 {
			addr, _ := netip.AddrFromSlice([]byte(e.key))
			got[addr.String()] = binary.NativeEndian.Uint32([]byte(e.value))
		}
	}
	return got
}

// play has one of the two flood the link and the other send something urgent, to each
// of the addresses.
func (u *uplink) play(what string, who [2]*netns.Attachment, to ...string) {
	batch, web := who[0], who[1]
	for _, addr := range to {
		u.t.Run(what+" to "+addr, func(t *testing.T) {
			u := &uplink{t, u.l, u.index}
			var in net.PacketConn
			require.NoError(t, namespaces.Do(func() (err error) {
				in, err = net.ListenPacket("udp", addr)
				return err
			}, u.l.other))
			defer in.Close()
			flood, urgent := u.dial(batch.Namespace(), addr), u.dial(web.Namespace(), addr)
			for _, c := range []net.Conn{flood, urgent} { // each finds its way
				_, err := c.Write([]byte("hello"))
				require.NoError(t, err)
				require.NoError(t, in.SetReadDeadline(time.Now().Add(testutil.Patience(10*time.Second))))
				_, _, err = in.ReadFrom(make([]byte, 10))
				require.NoError(t, err)
			}
			set := func(a *netns.Attachment, p netns.Priority) {
				t.Helper()
				err := a.SetBandwidth(u.l.ctx, "", netns.Bandwidth{Priority: p})
				if errors.Is(err, netns.ErrNotSupported) {
					testutil.Skip(t, "cls_bpf", "%v", err)
				}
				require.NoError(t, err)
			}
			const soon = 3 // what left while the queue filled, and one that it had in hand
			assert.Equal(t, flooded, u.overtakes(flood, urgent, in), "in turn")
			set(web, netns.PriorityOf(6))
			assert.LessOrEqual(t, u.overtakes(flood, urgent, in), soon, "interactive")
			set(web, netns.DefaultPriority())
			assert.Equal(t, flooded, u.overtakes(flood, urgent, in), "in turn again")
			set(batch, netns.PriorityOf(2))
			if flood.RemoteAddr().(*net.UDPAddr).IP.To4() != nil {
				raw, err := flood.SyscallConn()
				require.NoError(t, err)
				const lowDelay = 0x10 // interactive, when it is forwarded
				require.NoError(t, raw.Control(func(fd uintptr) {
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, lowDelay)
				}))
				require.NoError(t, err)
			}
			assert.LessOrEqual(t, u.overtakes(flood, urgent, in), soon, "bulk")
			set(batch, netns.DefaultPriority())
		})
	}
}
