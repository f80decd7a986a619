// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/netns/nft"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// childServe answers connections to port 80 with its name, what its files say, and
// how many of the pins in the directory args[0] it sees.
func childServe(args []string) int {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		host, _ := os.Hostname()
		resolv, _ := os.ReadFile("/etc/resolv.conf")
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		fmt.Fprintf(c, "%s|%s|%d", host, strings.TrimSpace(string(resolv)), strings.Count(string(mounts), args[0]+"/"))
		_ = c.Close()
	}
}

// networked is the config of a host whose machine is a network namespace of the
// test's own.
func networked(t *testing.T) (isolation.Config, *namespaces.Handle) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.NetAdmin, testutil.EachKernel)
	machine := nettest.Machine(t, "192.0.2.1/32") // an address to speak from
	path := filepath.Join(t.TempDir(), "machine")
	require.NoError(t, machine.Pin(path))
	t.Cleanup(func() { assert.NoError(t, namespaces.Unpin(path)) })
	cfg := config(t)
	cfg.NetworkNamespace = path
	cfg.Network = netns.Config{
		Pins:  filepath.Join(t.TempDir(), "pins"),
		Pools: []netns.PoolConfig{{Name: "lan", Subnet: netip.MustParsePrefix("10.7.0.0/24"), Quarantine: time.Millisecond}},
	}
	return cfg, machine
}

func routed(t *testing.T, id string, args ...string) isolation.Spec {
	s := spec(t, id, "serve", append(args, "/nowhere")...)
	s.Network = netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
		Kind: netns.Veth, Pools: []string{"lan"},
		Bandwidth: netns.Bandwidth{Egress: netns.BitsPerSecond(1e8), Ingress: netns.BitsPerSecond(1e8)},
	}}}
	return s
}

// ask connects to the sandbox from the machine.
func ask(t *testing.T, from *namespaces.Handle, addr netip.Addr) string {
	text, err := nettest.Read(from, net.JoinHostPort(addr.String(), "80"), testutil.Patience(5*time.Second))
	require.NoError(t, err)
	return text
}

func TestNetwork(t *testing.T) {
	cfg, machine := networked(t)
	h := openWith(t, cfg)
	s := routed(t, "web")
	s.Network.DNS = netns.DNS{Servers: []netip.Addr{netip.MustParseAddr("9.9.9.9")}}
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		s.Network.DNS = netns.DNS{} // there is nothing to mount it on
	}
	web := started(t, h, s)
	other := started(t, h, routed(t, "other", cfg.Network.Pins))
	ifs := web.Interfaces()
	require.Len(t, ifs, 1)
	assert.Equal(t, "eth0", ifs[0].Name)
	require.Len(t, ifs[0].Addrs, 1)

	// From another sandbox of the same network namespace's machine.
	f := strings.Split(ask(t, machine, ifs[0].Addrs[0].Addr()), "|")
	require.Len(t, f, 3)
	assert.Equal(t, "web", f[0])
	if !s.Network.DNS.IsZero() {
		assert.Equal(t, "nameserver 9.9.9.9", f[1])
	}
	f = strings.Split(ask(t, machine, other.Interfaces()[0].Addrs[0].Addr()), "|")
	assert.Equal(t, "other", f[0])
	assert.Equal(t, "0", f[2], "no copy of a pin is left in a sandbox")

	// One that joins has the same addresses.
	friend := spec(t, "friend", "wait")
	friend.Network = netns.Spec{Mode: netns.ModeJoin, Join: "web"}
	joined := started(t, h, friend)
	st, err := joined.Check(deadline(t))
	require.NoError(t, err)
	id, err := namespaces.IDOf(st.PID, namespaces.Network)
	require.NoError(t, err)
	st, err = web.Check(deadline(t))
	require.NoError(t, err)
	want, err := namespaces.IDOf(st.PID, namespaces.Network)
	require.NoError(t, err)
	assert.Equal(t, want, id)

	var ns netns.InterfaceStats
	require.NoError(t, web.StatNetwork("", &ns))
	assert.Positive(t, ns.Link.RxPackets)
	assert.Positive(t, ns.Egress.Packets)
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = web.StatNetwork("eth0", &ns) }))

	require.NoError(t, web.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(5e7)}))
	assert.Equal(t, netns.Bandwidth{Egress: netns.BitsPerSecond(5e7), Ingress: netns.BitsPerSecond(1e8)}, web.Spec().Network.Interfaces[0].Bandwidth)
	assert.ErrorIs(t, web.UpdateNetwork(deadline(t), "eth9", netns.Bandwidth{Egress: netns.Unlimited()}), isolation.ErrInvalid)
	assert.ErrorIs(t, web.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(1)}), isolation.ErrInvalid)

	again, err := h.Create(deadline(t), s)
	require.NoError(t, err, "an equal spec")
	assert.Same(t, web, again)

	// Destroyed, its address is for the next.
	require.NoError(t, joined.Destroy(deadline(t)))
	require.NoError(t, web.Destroy(deadline(t)))
	plain := started(t, h, spec(t, "plain", "wait"))
	assert.Empty(t, plain.Interfaces())
	assert.ErrorIs(t, plain.StatNetwork("", &ns), isolation.ErrNotSupported)
	assert.Error(t, plain.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.Unlimited()}))
}

func TestNetworkInvalid(t *testing.T) {
	for name, change := range map[string]func(*isolation.Spec){
		"twice": func(s *isolation.Spec) { s.Namespaces.Network = isolation.NamespaceNew },
		"dns": func(s *isolation.Spec) {
			s.Network.DNS.Search = []string{"a"}
			s.Namespaces.Mount = isolation.NamespaceHost
		},
		"mode":    func(s *isolation.Spec) { s.Network.Mode = "x" },
		"address": func(s *isolation.Spec) { s.Network.Interfaces[0].Addrs = []netip.Prefix{{}} },
	} {
		s := routed(t, "web")
		change(&s)
		assert.ErrorIs(t, s.Validate(), isolation.ErrInvalid, name)
	}
	require.NoError(t, routed(t, "web").Validate())
}

// A network that cannot be made leaves no sandbox.
func TestNetworkFails(t *testing.T) {
	cfg, _ := networked(t)
	h := openWith(t, cfg)
	s := routed(t, "web")
	s.Network.Interfaces[0].Bridge = "br9"
	_, err := h.Create(deadline(t), s)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = h.Sandbox(deadline(t), "web")
	assert.ErrorIs(t, err, isolation.ErrNotFound)
	_, err = h.Create(deadline(t), routed(t, "web"))
	require.NoError(t, err)
}

// childNetAgent is an agent that makes sandboxes as fast as it can, until it is
// killed.
func childNetAgent(args []string) int {
	ctx := context.Background()
	cfg, firewall, err := netAgentConfig(ctx, args)
	var h *isolation.Host
	if err == nil {
		h, err = isolation.Open(ctx, cfg)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("begun")
	for i := 0; ; i++ {
		spec := isolation.Spec{
			ID:      fmt.Sprint("web-", i%4),
			Process: isolation.Process{Args: []string{os.Args[0], os.Args[1], "wait"}},
			Network: netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{Kind: netns.Veth, Pools: []string{"lan"},
				Bandwidth: netns.Bandwidth{Egress: netns.BitsPerSecond(1e8), Ingress: netns.BitsPerSecond(1e8)}}}},
		}
		if firewall != nil {
			spec.Network.Isolated = true
			spec.Network.Ports = []netns.Port{{Host: uint16(8000 + i%4), Sandbox: 80}}
		}
		s, err := h.Create(ctx, spec)
		if err == nil {
			err = s.Start(ctx)
		}
		if err == nil && i%2 == 1 {
			err = s.Destroy(ctx)
		}
		if err != nil && !strings.Contains(err.Error(), "started already") {
			fmt.Println(err)
			return 1
		}
	}
}

// netAgentConfig is the host's, with a firewall where the kernel has nftables.
func netAgentConfig(ctx context.Context, args []string) (isolation.Config, *nft.Firewall, error) {
	cfg := isolation.Config{Root: args[0], Parent: args[1], NetworkNamespace: args[2], Network: netns.Config{
		Pins: args[3], Warm: 1,
		Pools: []netns.PoolConfig{{Name: "lan", Subnet: netip.MustParsePrefix("10.7.0.0/24"), Quarantine: time.Millisecond}},
	}}
	machine, err := namespaces.OpenPath(args[2])
	if err != nil {
		return cfg, nil, err
	}
	defer machine.Close()
	firewall, err := nft.Open(ctx, nft.Config{Scope: "test", Machine: machine})
	if errors.Is(err, netns.ErrNotSupported) {
		return cfg, nil, nil
	}
	if err == nil {
		cfg.Network.Firewall = firewall
	}
	return cfg, firewall, err
}

// Killed at any moment, an agent's networks are adopted or removed by the next
// (faults 1, 3, 5, 6 and 7).
func TestNetworkAfterKill(t *testing.T) {
	cfg, machine := networked(t)
	args := []string{cfg.Root, cfg.Parent, cfg.NetworkNamespace, cfg.Network.Pins}
	later, firewall, err := netAgentConfig(deadline(t), args)
	require.NoError(t, err)
	if firewall != nil {
		defer firewall.Close()
	}
	rounds := testutil.Soak(8)
	if testutil.Emulated() {
		rounds = 3
	}
	for i := range rounds {
		cmd := testutil.Child(t, "net-agent", args...)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		require.Equal(t, "begun", lines.Text())
		time.Sleep(testutil.Patience(time.Duration(5+11*i%80) * time.Millisecond)) // a random point
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
			t.Error(lines.Text())
		}
		_ = cmd.Wait()

		var h *isolation.Host
		require.Eventually(t, func() bool {
			h, err = isolation.Open(deadline(t), later)
			return !errors.Is(err, isolation.ErrLocked) // by a child that is on its way to exec
		}, testutil.Patience(10*time.Second), 10*time.Millisecond)
		require.NoError(t, err)
		for _, r := range h.Recovered() {
			assert.NoError(t, r.Err, "%v", r)
		}
		// What was adopted is whole: everyone has an address, and no two the same.
		seen := map[netip.Prefix]bool{}
		machineEnds := 0
		var ids []string
		for s := range h.Sandboxes(nil) {
			ids = append(ids, s.ID())
			require.Len(t, s.Interfaces(), 1)
			require.Len(t, s.Interfaces()[0].Addrs, 1, s.ID())
			addr := s.Interfaces()[0].Addrs[0]
			assert.False(t, seen[addr])
			seen[addr] = true
			machineEnds++
			if st, err := s.Check(deadline(t)); assert.NoError(t, err) && st.State == isolation.StateCreated {
				assert.NoError(t, s.Start(deadline(t)), "and can be started")
			}
		}
		if firewall != nil {
			owners, err := firewall.Owners(deadline(t))
			require.NoError(t, err)
			assert.ElementsMatch(t, ids, owners)
		}
		m, err := netns.Open(machine)
		require.NoError(t, err)
		count := func() int {
			links, err := m.Links(deadline(t))
			require.NoError(t, err)
			n := 0
			for _, l := range links {
				if strings.HasPrefix(l.Alias, "caisson ") {
					n++
				}
			}
			return n
		}
		// The ends of what was removed go with its namespace, which the kernel
		// takes apart later.
		assert.Eventually(t, func() bool { return count() == machineEnds }, testutil.Patience(10*time.Second), 10*time.Millisecond)
		for s := range h.Sandboxes(nil) {
			if i%4 == 3 {
				assert.NoError(t, s.Destroy(deadline(t)))
			}
		}
		require.NoError(t, h.Close())
		require.NoError(t, m.Close())
	}
	h := openWith(t, later)
	for s := range h.Sandboxes(nil) {
		require.NoError(t, s.Destroy(deadline(t)))
	}
	if firewall != nil {
		owners, err := firewall.Owners(deadline(t))
		require.NoError(t, err)
		assert.Empty(t, owners)
	}
}

// After a restart the limits that were acknowledged hold.
func TestNetworkRecovered(t *testing.T) {
	cfg, machine := networked(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	web := started(t, h, routed(t, "web"))
	addr := web.Interfaces()[0].Addrs[0]
	require.NoError(t, web.UpdateNetwork(deadline(t), "eth0", netns.Bandwidth{Ingress: netns.BitsPerSecond(3e7)}))
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	web, err = h.Sandbox(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.PrefixFrom(addr.Addr(), 32)}, web.Interfaces()[0].Addrs)
	assert.Equal(t, netns.BitsPerSecond(3e7), web.Spec().Network.Interfaces[0].Bandwidth.Ingress)
	assert.True(t, strings.HasPrefix(ask(t, machine, addr.Addr()), "web|"))
	same, err := h.Create(deadline(t), routed(t, "web"))
	require.NoError(t, err, "compared as asked for at first")
	assert.Same(t, web, same)
}
