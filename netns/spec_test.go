// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func wholeSpec() Spec {
	return Spec{
		Mode: ModeNew,
		Interfaces: []Interface{
			{Kind: Veth, Bridge: "br0", Pools: []string{"four"}, MTU: 1400, MAC: "02:00:00:00:00:01",
				Addrs:     []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")},
				Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")},
				Routes:    []Route{{To: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("10.0.0.3")}},
				Bandwidth: Bandwidth{Egress: BitsPerSecond(1e8), Ingress: Unlimited()}},
			{Name: "lan", Kind: Macvlan, Parent: "eth0", Submode: "private"},
		},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
		DNS: DNS{Servers: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, Search: []string{"a.example"}, Options: []string{"ndots:2"},
			Hosts: []HostEntry{{netip.MustParseAddr("10.0.0.9"), []string{"db", "db.example"}}}},
		Ports: []Port{{Host: 8080, Sandbox: 80}, {Protocol: UDP, Host: 53, Address: netip.MustParseAddr("2001:db8::1")}},
	}
}

func TestSpec(t *testing.T) {
	s := wholeSpec()
	require.NoError(t, s.Validate())
	b, err := json.Marshal(s)
	require.NoError(t, err)
	var back Spec
	require.NoError(t, json.Unmarshal(b, &back))
	assert.True(t, s.Equal(back))
	assert.Equal(t, s, back)

	c := s.Clone()
	c.Interfaces[0].Addrs[0] = netip.MustParsePrefix("10.0.0.3/24")
	c.DNS.Hosts[0].Names[0] = "x"
	c.Sysctls["net.ipv4.ip_forward"] = "0"
	assert.True(t, s.Equal(wholeSpec()), "the clone shares nothing")
	assert.False(t, s.Equal(c))

	assert.True(t, Spec{}.IsZero())
	for name, s := range testutil.Filled[Spec]("10.0.0.1", "10.0.0.0/8", "1mbit", "7") {
		assert.Equal(t, s.Equal(Spec{}), s.IsZero(), name)
	}
	assert.True(t, Spec{Interfaces: []Interface{}, Sysctls: map[string]string{}, DNS: DNS{Search: []string{}}}.IsZero())
	require.NoError(t, Spec{}.Validate())
	require.NoError(t, Spec{Mode: ModeHost}.Validate())
	require.NoError(t, Spec{Mode: ModeJoin, Join: "other"}.Validate())
	require.NoError(t, Spec{Mode: ModeJoin, Join: "/run/netns/x"}.Validate())
	assert.True(t, Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth}}, Ports: []Port{{Host: 1}}}.Equal(
		Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Name: "eth0", Pools: []string{}}}, Ports: []Port{{Host: 1, Sandbox: 1, Protocol: TCP}}, Sysctls: map[string]string{}}))
}

func TestSpecInvalid(t *testing.T) {
	in := func(f func(*Interface)) func(*Spec) { return func(s *Spec) { f(&s.Interfaces[0]) } }
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, change := range map[string]func(*Spec){
		"mode":            func(s *Spec) { s.Mode = "bridge" },
		"no mode":         func(s *Spec) { s.Mode = "" },
		"host with links": func(s *Spec) { s.Mode = ModeHost },
		"join nothing":    func(s *Spec) { *s = Spec{Mode: ModeJoin} },
		"join and new":    func(s *Spec) { s.Join = "other" },
		"join up":         func(s *Spec) { *s = Spec{Mode: ModeJoin, Join: "/run/netns/../x"} },
		"join id":         func(s *Spec) { *s = Spec{Mode: ModeJoin, Join: "a b"} },
		"kind":            in(func(i *Interface) { i.Kind = "tun" }),
		"long name":       in(func(i *Interface) { i.Name = "sixteen--letters" }),
		"hostile name":    in(func(i *Interface) { i.Name = "a/../b" }),
		"lo":              in(func(i *Interface) { i.Name = "lo" }),
		"name twice":      in(func(i *Interface) { i.Name = "lan" }),
		"hostile bridge":  in(func(i *Interface) { i.Bridge = "br 0" }),
		"parent of veth":  in(func(i *Interface) { i.Parent = "eth0" }),
		"submode of veth": in(func(i *Interface) { i.Submode = "l2" }),
		"small mtu":       in(func(i *Interface) { i.MTU = 10 }),
		"large mtu":       in(func(i *Interface) { i.MTU = 1 << 20 }),
		"mac":             in(func(i *Interface) { i.MAC = "01:00:00:00:00:01" }),
		"zero mac":        in(func(i *Interface) { i.MAC = "00:00:00:00:00:00" }),
		"long mac":        in(func(i *Interface) { i.MAC = "02:00:00:00:00:00:00:01" }),
		"no address":      in(func(i *Interface) { i.Addrs = []netip.Prefix{{}} }),
		"multicast":       in(func(i *Interface) { i.Addrs = []netip.Prefix{prefix("224.0.0.1/24")} }),
		"mapped":          in(func(i *Interface) { i.Addrs = []netip.Prefix{prefix("::ffff:10.0.0.1/120")} }),
		"address twice":   in(func(i *Interface) { i.Addrs = append(i.Addrs, prefix("10.0.0.2/16")) }),
		"pool":            in(func(i *Interface) { i.Pools = []string{"../x"} }),
		"gateway twice":   in(func(i *Interface) { i.Gateways = append(i.Gateways, addr("10.0.0.9")) }),
		"zero gateway":    in(func(i *Interface) { i.Gateways = []netip.Addr{{}} }),
		"routed gateway":  in(func(i *Interface) { i.Bridge = "" }),
		"route bits":      in(func(i *Interface) { i.Routes[0].To = prefix("10.1.0.1/16") }),
		"route family":    in(func(i *Interface) { i.Routes[0].Via = addr("fe80::1") }),
		"rate":            in(func(i *Interface) { i.Bandwidth.Egress = BitsPerSecond(1) }),
		"ingress of macvlan": func(s *Spec) {
			s.Interfaces[1].Bandwidth.Ingress = BitsPerSecond(1e6)
		},
		"no parent":     func(s *Spec) { s.Interfaces[1].Parent = "" },
		"submode":       func(s *Spec) { s.Interfaces[1].Submode = "l2" },
		"many":          func(s *Spec) { s.Interfaces = make([]Interface, 17) },
		"kernel sysctl": func(s *Spec) { s.Sysctls = map[string]string{"kernel.core_pattern": "|/x"} },
		"sysctl up":     func(s *Spec) { s.Sysctls = map[string]string{"net/../kernel/core_pattern": "x"} },
		"sysctl dots":   func(s *Spec) { s.Sysctls = map[string]string{"net.//.kernel": "x"} },
		"sysctl lines":  func(s *Spec) { s.Sysctls = map[string]string{"net.ipv4.ip_forward": "1\n2"} },
		"dns server":    func(s *Spec) { s.DNS.Servers = []netip.Addr{{}} },
		"dns line":      func(s *Spec) { s.DNS.Search = []string{"a\nnameserver 6.6.6.6"} },
		"dns option":    func(s *Spec) { s.DNS.Options = []string{"a b"} },
		"dns host":      func(s *Spec) { s.DNS.Hosts[0].Names = nil },
		"port 0":        func(s *Spec) { s.Ports[0].Host = 0 },
		"port protocol": func(s *Spec) { s.Ports[0].Protocol = "sctp" },
		"port twice":    func(s *Spec) { s.Ports = append(s.Ports, Port{Host: 8080, Sandbox: 81}) },
		"port address":  func(s *Spec) { s.Ports[0].Address = netip.IPv4Unspecified() },
	} {
		s := wholeSpec()
		change(&s)
		err := s.Validate()
		if assert.ErrorIs(t, err, ErrInvalid, name) {
			assert.Less(t, len(err.Error()), 2000)
		}
	}
}

func TestDNSFiles(t *testing.T) {
	d := wholeSpec().DNS
	assert.Equal(t, "search a.example\nnameserver 9.9.9.9\noptions ndots:2\n", string(d.ResolvConf()))
	assert.Equal(t, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.2\tweb\n10.0.0.9\tdb db.example\n",
		string(d.HostsFile("web", []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")})))
	assert.Empty(t, DNS{}.ResolvConf())
}

func TestLimits(t *testing.T) {
	for text, want := range map[string]Limit{
		"100mbit": BitsPerSecond(1e8), "1.5gbit": BitsPerSecond(15e8), "64kbit": BitsPerSecond(64e3), "123456bit": BitsPerSecond(123456),
		"100mbit/256kb": BitsPerSecond(1e8).WithBurst(256 << 10), "1gbit/1mb": BitsPerSecond(1e9).WithBurst(1 << 20),
		"8tbit": BitsPerSecond(8e12), "unlimited": Unlimited(),
	} {
		got, err := ParseLimit(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, bad := range []string{"", "100", "mbit", "1kbit", "9tbit", "-1mbit", "1e3mbit", "100mbit/", "100mbit/1b", "100mbit/1gb",
		"NaNbit", "infbit", "0x10mbit", "99999999999999999999gbit", "18446744073709551615tbit", "1mbit/256kb/2", " 1mbit", "Unlimited"} {
		got, err := ParseLimit(bad)
		assert.ErrorIs(t, err, ErrInvalid, bad)
		assert.Zero(t, got)
	}
	for rate, burst := range map[uint64]uint64{1e6: 16 << 10, 32e6: 16 << 10, 40e6: 20_000, 100e6: 50_000, 104e6: 52_000, 105e6: 131_250} {
		assert.Equal(t, burst, BitsPerSecond(rate).Burst(), "%d", rate)
	}
	assert.Equal(t, uint64(1250000), BitsPerSecond(1e9).Burst())
	assert.ErrorIs(t, Limit{}.WithBurst(1<<20).Validate(), ErrInvalid)
	b := Bandwidth{Egress: BitsPerSecond(1e6)}.Merge(Bandwidth{Ingress: Unlimited()})
	assert.Equal(t, Bandwidth{Egress: BitsPerSecond(1e6), Ingress: Unlimited()}, b)
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"100mbit", "1.5gbit", "100mbit/256kb", "unlimited", "123456bit/131072b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLimit(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, l)
			return
		}
		require.NoError(t, l.Validate())
		again, err := ParseLimit(l.String())
		require.NoError(t, err)
		require.Equal(t, l, again)
	})
}

func TestPorts(t *testing.T) {
	for text, want := range map[string]Port{
		"80": {TCP, 80, 80, netip.Addr{}}, "8080:80": {TCP, 8080, 80, netip.Addr{}}, "53:53/udp": {UDP, 53, 53, netip.Addr{}},
		"192.0.2.1:8080:80/tcp": {TCP, 8080, 80, netip.MustParseAddr("192.0.2.1")},
		"[2001:db8::1]:53/udp":  {UDP, 53, 53, netip.MustParseAddr("2001:db8::1")},
	} {
		got, err := ParsePort(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, bad := range []string{"", "0", "65536", "a", "80/sctp", "80:0", "::1:80", "[::1:80", "0.0.0.0:80", "80:80:80", "80/", "[1.2.3.4]:80"} {
		got, err := ParsePort(bad)
		assert.ErrorIs(t, err, ErrInvalid, bad)
		assert.Zero(t, got)
	}
}

func FuzzParsePort(f *testing.F) {
	f.Add("192.0.2.1:8080:80/tcp")
	f.Add("[2001:db8::1]:53/udp")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePort(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, p)
			return
		}
		again, err := ParsePort(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward": "net/ipv4/ip_forward", "net/ipv4/ip_forward": "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/100.rp_filter": "net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter": "net/ipv4/conf/eth0.100/rp_filter",
	} {
		assert.Equal(t, want, sysctlPath(key))
	}
	name, ok := ofInterface("net.ipv4.conf.eth0/100.rp_filter")
	assert.True(t, ok)
	assert.Equal(t, "eth0.100", name)
	_, ok = ofInterface("net.ipv4.conf.all.rp_filter")
	assert.False(t, ok)
}

func TestNames(t *testing.T) {
	n, m := &Network{scope: "one"}, &Network{scope: "two"}
	seen := map[string]bool{}
	for _, who := range []*Network{n, m} {
		for _, owner := range []string{"a", "b", strings.Repeat("x", 64)} {
			for i := range 3 {
				name := who.linkName(owner, i)
				require.NoError(t, checkName(name))
				assert.Len(t, name, maxName)
				assert.False(t, seen[name])
				seen[name] = true
				inside, outside := who.macs(owner, i)
				for _, mac := range []byte{inside[0], outside[0]} {
					assert.Equal(t, byte(2), mac&3, "locally administered, unicast")
				}
				assert.NotEqual(t, inside, outside)
			}
			got, ours := who.ownerOf(who.alias(owner))
			assert.True(t, ours)
			assert.Equal(t, owner, got)
			assert.Less(t, len(who.alias(owner)), 256, "IFALIASZ")
		}
	}
	_, ours := n.ownerOf(m.alias("a"))
	assert.False(t, ours)
	_, ours = n.ownerOf(n.alias("a") + " eth0 up")
	assert.False(t, ours, "a moved link")
}

func TestConfigInvalid(t *testing.T) {
	good := Config{Scope: "a1", State: "/x", Pools: []PoolConfig{{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24")}}}
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*Config){
		"scope": func(c *Config) { c.Scope = "a-b" }, "no scope": func(c *Config) { c.Scope = "" },
		"state": func(c *Config) { c.State = "" }, "warm": func(c *Config) { c.Warm = -1 },
		"pool twice": func(c *Config) { c.Pools = append(c.Pools, c.Pools[0]) },
		"pool overlap": func(c *Config) {
			c.Pools = append(c.Pools, PoolConfig{Name: "q", Subnet: netip.MustParsePrefix("10.0.0.128/25")})
		},
	} {
		c := good
		change(&c)
		assert.ErrorIs(t, c.Validate(), ErrInvalid, name)
	}
}

func TestCongestion(t *testing.T) {
	earlier := Queue{Bytes: 1000, Packets: 10, Drops: 1<<32 - 1, Overlimits: 5}
	now := Queue{Bytes: 126_000, Packets: 109, Drops: 0, Overlimits: 8, Backlog: 12_500, Waiting: 9}
	c := now.Since(earlier, time.Second)
	assert.Equal(t, Congestion{Delay: 100 * time.Millisecond, Dropped: 0.01, Limited: 3, Rate: 1e6}, c)
	assert.Equal(t, time.Second, Queue{Backlog: 1, Bytes: 1}.Since(Queue{Bytes: 1}, time.Second).Delay, "nothing leaves")
	assert.Zero(t, now.Since(now, 0).Rate)
	assert.Equal(t, 8.0, Queue{Bytes: 1, Packets: 1}.Since(earlier, time.Second).Rate, "made anew")
	assert.Zero(t, Queue{}.Since(Queue{}, time.Second))
}
