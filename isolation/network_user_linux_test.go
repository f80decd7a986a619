// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// childNetRoot answers connections to port 80 with what it can and cannot do about
// the network, as root in a user namespace, and about those in the directory
// args[0].
func childNetRoot(args []string) int {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var report []string
	say := func(what string, err error) { report = append(report, fmt.Sprintf("%s: %v", what, err)) }
	socket := func(domain, kind, protocol int) error {
		fd, err := syscall.Socket(domain, kind, protocol)
		if err == nil {
			_ = syscall.Close(fd)
		}
		return err
	}
	say("uid", fmt.Errorf("%d", os.Getuid()))
	say("echo", socket(syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP))
	say("raw", socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP))
	say("packet", socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0))
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	say("down", netlink.LinkSetDown(eth))
	addr, _ := netlink.ParseAddr("10.7.0.99/32")
	say("address", netlink.AddrAdd(eth, addr))
	say("limit", netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: eth.Attrs().Index, Parent: netlink.HANDLE_ROOT}}))
	f, err := os.OpenFile("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY, 0)
	say("sysctl", errors.Unwrap(err))
	_ = f.Close()
	pins, _ := filepath.Glob(args[0] + "/*")
	joined := 0
	for _, pin := range pins {
		ns, err := namespaces.OpenPath(pin)
		if err == nil {
			err = namespaces.Do(func() error { return nil }, ns)
			_ = ns.Close()
		}
		if !errors.Is(err, os.ErrPermission) {
			joined++
		}
	}
	say("others", fmt.Errorf("%d of %d", joined, len(pins)))
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprint(c, strings.Join(report, "\n"))
		_ = c.Close()
	}
}

// inUserNamespace gives a sandbox a user namespace, in which root is nobody on the
// host, and a program that such a one may execute.
func inUserNamespace(t *testing.T, s isolation.Spec) isolation.Spec {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	program, err := os.ReadFile(s.Process.Args[0])
	require.NoError(t, err)
	s.Process.Args[0] = filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(s.Process.Args[0], program, 0o755))
	s.Process.Capabilities = []string{"ALL"}
	s.Namespaces.User = isolation.NamespaceNew
	s.Namespaces.UIDMap = namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	s.Namespaces.GIDMap = s.Namespaces.UIDMap
	return s
}

// Root in a user namespace, with every capability, uses the network that was made
// for it like root, but cannot change it, and least of all lift its limits.
func TestNetworkOfUserNamespace(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	cfg, machine := networked(t)
	cfg.Network.Warm = 1
	h := openWith(t, cfg)
	other := started(t, h, routed(t, "other"))
	s := routed(t, "web")
	s.Process.Args = testutil.ChildArgs(t, "net-root", cfg.Network.Pins)
	web := started(t, h, inUserNamespace(t, s))
	st, err := web.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Missing)
	assert.Equal(t, strings.Join([]string{
		"uid: 0", "echo: <nil>",
		"raw: operation not permitted", "packet: operation not permitted", "down: operation not permitted",
		"address: operation not permitted", "limit: operation not permitted", "sysctl: permission denied",
		"others: 0 of 2",
	}, "\n"), ask(t, machine, web.Interfaces()[0].Addrs[0].Addr()))
	require.NoError(t, web.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(5e7)}), "the host can")
	mine, err := namespaces.IDOf(st.PID, namespaces.User)
	require.NoError(t, err)
	home, err := namespaces.IDOf(os.Getpid(), namespaces.User)
	require.NoError(t, err)
	assert.NotEqual(t, home, mine)

	// The network of another sandbox, and the machine's, can be joined as well.
	want, err := namespaces.IDOf(st.PID, namespaces.Network)
	require.NoError(t, err)
	for mode, want := range map[netns.Mode]namespaces.ID{netns.ModeJoin: want, netns.ModeHost: machine.ID()} {
		s := inUserNamespace(t, spec(t, "with-"+string(mode), "wait"))
		s.Network.Mode = mode
		if mode == netns.ModeJoin {
			s.Network.Join = "web"
		}
		st, err := started(t, h, s).Check(deadline(t))
		require.NoError(t, err)
		got, err := namespaces.IDOf(st.PID, namespaces.Network)
		require.NoError(t, err)
		assert.Equal(t, want, got, mode)
	}

	// What such a sandbox has of the pins does not keep the others' namespaces:
	// their links go with them, and are not waited for.
	end := other.Interfaces()[0].Machine
	begun := time.Now()
	require.NoError(t, other.Destroy(deadline(t)))
	m, err := netns.Open(machine)
	require.NoError(t, err)
	defer m.Close()
	_, err = m.Link(deadline(t), end)
	assert.ErrorIs(t, err, os.ErrNotExist)
	t.Logf("destroyed in %v", time.Since(begun))
}

// What the spec says about the parameters counts.
func TestNetworkOfUserNamespaceStrict(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	cfg, _ := networked(t)
	h := openWith(t, cfg)
	s := routed(t, "web")
	s.Process.Args = testutil.ChildArgs(t, "net-root", cfg.Network.Pins)
	s.Network.Sysctls = map[string]string{"net/ipv4/ip_unprivileged_port_start": "1024"}
	box := create(t, h, inUserNamespace(t, s))
	out := run(t, box)
	line := make([]byte, 100)
	n, err := out.Read(line)
	require.NoError(t, err)
	assert.Contains(t, string(line[:n]), "bind: permission denied")
	require.NoError(t, box.Destroy(deadline(t)))
}
