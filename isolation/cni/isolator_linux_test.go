// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/cni"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(runFault())
	}
	testutil.Main(m, map[string]func([]string) int{"serve": childServe, "agent": childAgent})
}

// childServe answers connections to port 80 with its name.
func childServe([]string) int {
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
		_, _ = io.WriteString(c, host)
		_ = c.Close()
	}
}

const debian = "/usr/lib/cni" // of containernetworking-plugins

// lab is a machine of the test's own, with what a host on it is made of.
type lab struct {
	t       *testing.T
	machine *namespaces.Handle
	host    isolation.Config
	cfg     cni.Config
	leases  string // of host-local
}

func newLab(t *testing.T) *lab {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.NetAdmin)
	if _, err := os.Stat(debian + "/bandwidth"); err != nil {
		testutil.Skip(t, "cni-plugins", "%v", err)
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		testutil.Skip(t, "cni-plugins", "%v", err)
	}
	machine := nettest.Machine(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "machine")
	require.NoError(t, machine.Pin(path))
	l := &lab{t: t, machine: machine, leases: filepath.Join(dir, "leases")}
	l.host = isolation.Config{Root: filepath.Join(dir, "state"), Parent: testutil.CgroupName(t)}
	l.cfg = cni.Config{State: filepath.Join(dir, "cni"), Scope: "test", Plugins: []string{debian},
		Pins: filepath.Join(dir, "pins"), NetworkNamespace: path}
	pins, err := netns.OpenPins(l.cfg.Pins)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, pins.Discard())
		assert.NoError(t, namespaces.Unpin(path))
	})
	return l
}

func (l *lab) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second))
	l.t.Cleanup(cancel)
	return ctx
}

// lan is a list of the bridge plugin with host-local addresses, and what follows
// it.
func (l *lab) lan(more string) []byte {
	return fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "lan", "plugins": [
		{"type": "bridge", "bridge": "cbr0", "isGateway": true, "ipam": {"type": "host-local", "dataDir": %q,
			"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd88::/64"}]], "routes": [{"dst": "0.0.0.0/0"}]}}%s]}`, l.leases, more)
}

// open opens a host with a new isolator, as an agent does that was started again.
func (l *lab) open() (*isolation.Host, *cni.Isolator) {
	iso, err := cni.New(l.cfg)
	require.NoError(l.t, err)
	cfg := l.host
	cfg.Isolators = []isolation.Isolator{iso}
	h, err := isolation.Open(l.ctx(), cfg)
	require.NoError(l.t, err)
	l.t.Cleanup(func() {
		if l.t.Failed() { // nothing of it stays all the same
			for s := range h.Sandboxes(nil) {
				_ = s.Destroy(l.ctx())
			}
			_, _ = h.Remove(l.ctx()), h.Close()
		}
	})
	return h, iso
}

func (l *lab) spec(id string) isolation.Spec {
	return isolation.Spec{ID: id, Process: isolation.Process{Args: testutil.ChildArgs(l.t, "serve")}}
}

// start creates a sandbox and waits until it serves.
func (l *lab) start(h *isolation.Host, s isolation.Spec) *isolation.Sandbox {
	box, err := h.Create(l.ctx(), s)
	require.NoError(l.t, err)
	r, w, err := os.Pipe()
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = r.Close() })
	require.NoError(l.t, box.Start(l.ctx(), nil, w, os.Stderr))
	require.NoError(l.t, w.Close())
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(l.t, err)
	require.Equal(l.t, "ready\n", line)
	return box
}

// ask connects from the machine.
func (l *lab) ask(addr string) (text string, err error) {
	return nettest.Read(l.machine, addr, testutil.Patience(5*time.Second))
}

// nothing says that no trace of a sandbox is left, but for bridges.
func (l *lab) nothing() {
	l.t.Helper()
	for _, dir := range []string{l.cfg.State, l.cfg.Pins} {
		left, err := os.ReadDir(dir)
		require.NoError(l.t, err)
		assert.Empty(l.t, left, dir)
	}
	leases, err := filepath.Glob(l.leases + "/*/*.*.*.*")
	require.NoError(l.t, err)
	assert.Empty(l.t, leases)
	h, err := netns.Open(l.machine)
	require.NoError(l.t, err)
	defer h.Close()
	assert.Eventually(l.t, func() bool { // links go a moment after their namespace
		links, err := h.Links(l.ctx())
		return err == nil && !slices.ContainsFunc(links, func(n netns.Link) bool { return n.Kind == "veth" || n.Kind == "ifb" })
	}, testutil.Patience(10*time.Second), 5*time.Millisecond)
}

func TestPlugins(t *testing.T) {
	l := newLab(t)
	l.cfg.Lists = [][]byte{l.lan(`, {"type": "tuning", "sysctl": {"net.core.somaxconn": "77"}},
		{"type": "bandwidth", "ingressRate": 100000000, "ingressBurst": 1000000, "egressRate": 100000000, "egressBurst": 1000000}`),
		// The portmap plugin of 1.1.1 does not recognise its own rules.
		fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "back", "disableCheck": true, "plugins": [{"type": "bridge", "bridge": "cbr1",
			"isGateway": true, "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.89.0.0/24"}], [{"subnet": "fd89::/64"}]]}},
			{"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}`, l.leases)}
	l.cfg.Select = func(s isolation.Spec) (cni.Arguments, bool) {
		return cni.Arguments{Capabilities: map[string]any{"portMappings": []map[string]any{
			{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}}, s.Labels["net"] == "lan"
	}
	h, iso := l.open()
	s := l.spec("web")
	s.Labels = map[string]string{"net": "lan"}
	web := l.start(h, s)

	results, err := iso.Results("web")
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Len(t, results[0].IPs, 2)
	require.Len(t, results[1].IPs, 2)
	addrs := []string{"10.88.0.1:8080", "[fd88::1]:8080", "10.89.0.1:8080", "[fd89::1]:8080"}
	for _, r := range results {
		for _, ip := range r.IPs {
			addrs = append(addrs, net.JoinHostPort(ip.Address.IP.String(), "80"))
		}
	}
	for _, addr := range addrs {
		got, err := l.ask(addr)
		require.NoError(t, err, addr)
		assert.Equal(t, "web", got)
	}
	inside, err := namespaces.OpenPath(filepath.Join(l.cfg.Pins, "caisson-cni-test-web"))
	require.NoError(t, err)
	defer inside.Close()
	st, err := web.Check(l.ctx())
	require.NoError(t, err)
	id, err := namespaces.IDOf(st.PID, namespaces.Network)
	require.NoError(t, err)
	assert.Equal(t, inside.ID(), id)
	n, err := netns.Open(inside)
	require.NoError(t, err)
	defer n.Close()
	links, err := n.Links(l.ctx())
	require.NoError(t, err)
	require.Len(t, links, 3)
	for i, name := range []string{"lo", "eth0", "eth1"} {
		assert.Equal(t, name, links[i].Name)
		assert.True(t, links[i].Up)
	}
	require.NoError(t, namespaces.Do(func() error {
		got, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		assert.Equal(t, "77\n", string(got))
		return err
	}, inside))
	require.NoError(t, iso.Check(l.ctx(), "web"))

	// Another sandbox is not of the plugins.
	plain, err := h.Create(l.ctx(), l.spec("plain"))
	require.NoError(t, err)
	_, err = iso.Results("plain")
	assert.ErrorIs(t, err, isolation.ErrNotFound)
	assert.ErrorIs(t, iso.Check(l.ctx(), "plain"), isolation.ErrNotFound)
	assert.ErrorIs(t, iso.Check(l.ctx(), "../web"), isolation.ErrInvalid)
	require.NoError(t, plain.Destroy(l.ctx()))

	// A later agent knows it all.
	require.NoError(t, h.Close())
	h, iso = l.open()
	web, err = h.Sandbox(l.ctx(), "web")
	require.NoError(t, err)
	again, err := iso.Results("web")
	require.NoError(t, err)
	assert.Equal(t, results, again)
	got, err := l.ask(addrs[1])
	require.NoError(t, err)
	assert.Equal(t, "web", got)
	require.NoError(t, iso.Check(l.ctx(), "web"))
	require.NoError(t, namespaces.Do(func() error { // somebody breaks it
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrDel(eth, &netlink.Addr{IPNet: &results[0].IPs[0].Address})
	}, inside))
	assert.ErrorContains(t, iso.Check(l.ctx(), "web"), `check network "lan"`)

	removed, err := iso.Sweep(l.ctx(), func(id string) bool { return id == "web" })
	require.NoError(t, err)
	assert.Empty(t, removed)
	require.NoError(t, web.Destroy(l.ctx()))
	l.nothing()
	require.NoError(t, namespaces.Do(func() error {
		rules, err := exec.Command("iptables", "-t", "nat", "-S").Output()
		assert.NotContains(t, string(rules), "8080")
		assert.NotContains(t, string(rules), results[1].IPs[0].Address.IP.String())
		return err
	}, l.machine))
	require.NoError(t, h.Remove(l.ctx()))
	require.NoError(t, h.Close())
}

// lines are what the plugin of the tests has written.
func lines(t *testing.T, log string) []string {
	text, err := os.ReadFile(log)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	return strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
}

// A plugin that fails is an error with what it says, and the plugins before it are
// undone; one that fails to undo is asked again.
func TestPluginFails(t *testing.T) {
	l := newLab(t)
	dir, log := withFault(t)
	l.cfg.Plugins = append(l.cfg.Plugins, dir)
	l.cfg.Select = func(isolation.Spec) (cni.Arguments, bool) {
		return cni.Arguments{Args: [][2]string{{"IgnoreUnknown", "1"}, {"POD", "x"}}}, true
	}
	l.cfg.Lists = [][]byte{l.lan(fmt.Sprintf(`, {"type": "fault", "log": %q, "fail": ["ADD"]}`, log))}
	h, _ := l.open()
	_, err := h.Create(l.ctx(), l.spec("web"))
	assert.ErrorContains(t, err, "no ADD today")
	assert.ErrorContains(t, err, `network "lan"`)
	call := " test-web eth0 IgnoreUnknown=1;POD=x"
	assert.Equal(t, []string{"ADD" + call, "added", "DEL" + call, "without a result"}, lines(t, log))
	_, err = h.Sandbox(l.ctx(), "web")
	assert.ErrorIs(t, err, isolation.ErrNotFound)
	l.nothing()
	require.NoError(t, h.Close())

	l.cfg.Lists = [][]byte{l.lan(fmt.Sprintf(`, {"type": "fault", "log": %q, "fail": ["DEL", "CHECK"]}`, log))}
	h, iso := l.open()
	web := l.start(h, l.spec("web"))
	assert.ErrorContains(t, iso.Check(l.ctx(), "web"), "no CHECK today")
	assert.ErrorContains(t, web.Destroy(l.ctx()), "no DEL today")
	assert.ErrorContains(t, web.Destroy(l.ctx()), "no DEL today")
	// The list is the one that the sandbox was connected with, whatever the
	// configuration says by now; here the plugin itself gets better.
	require.NoError(t, os.Remove(filepath.Join(dir, "fault")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fault"), []byte("#!/bin/sh\nexit 0\n"), 0o755))
	require.NoError(t, web.Destroy(l.ctx()))
	l.nothing()

	l.cfg.Lists = [][]byte{[]byte(`{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "no-such-plugin"}]}`)}
	require.NoError(t, h.Close())
	h, _ = l.open()
	_, err = h.Create(l.ctx(), l.spec("web"))
	assert.ErrorContains(t, err, "no-such-plugin")
	// It cannot be undone either, as nobody knows what it did.
	assert.DirExists(t, filepath.Join(l.cfg.State, "web"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "no-such-plugin"), []byte("#!/bin/sh\nexit 0\n"), 0o755))
	removed, err := func() ([]string, error) {
		iso, err := cni.New(l.cfg)
		require.NoError(t, err)
		return iso.Sweep(l.ctx(), func(string) bool { return false })
	}()
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, removed)
	l.nothing()
	require.NoError(t, h.Remove(l.ctx()))
	require.NoError(t, h.Close())
}

// childAgent creates a sandbox on the host of its arguments.
func childAgent(args []string) int {
	list, err := os.ReadFile(args[5])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	iso, err := cni.New(cni.Config{State: args[2], Scope: "test", Plugins: strings.Split(args[6], ":"), Pins: args[3], NetworkNamespace: args[4], Lists: [][]byte{list}})
	if err == nil {
		var h *isolation.Host
		if h, err = isolation.Open(ctx, isolation.Config{Root: args[0], Parent: args[1], Isolators: []isolation.Isolator{iso}}); err == nil {
			_, err = h.Create(ctx, isolation.Spec{ID: "web", Process: isolation.Process{Args: []string{"/bin/true"}}})
		}
	}
	fmt.Println(err)
	return 1
}

// An agent is killed while a plugin adds: the next one waits for the plugin, and
// undoes the chain, of which there is no result.
func TestKilledDuringAdd(t *testing.T) {
	l := newLab(t)
	dir, log := withFault(t)
	l.cfg.Plugins = append(l.cfg.Plugins, dir)
	l.cfg.Lists = [][]byte{l.lan(fmt.Sprintf(`, {"type": "fault", "log": %q, "wait": %q}`, log, dir+"/go"))}
	list := filepath.Join(dir, "list")
	require.NoError(t, os.WriteFile(list, l.cfg.Lists[0], 0o600))
	agent := testutil.Child(t, "agent", l.host.Root, l.host.Parent, l.cfg.State, l.cfg.Pins, l.cfg.NetworkNamespace, list, strings.Join(l.cfg.Plugins, ":"))
	agent.Stdout = os.Stderr
	require.NoError(t, agent.Start())
	require.Eventually(t, func() bool { return len(lines(t, log)) > 0 }, testutil.Patience(10*time.Second), 5*time.Millisecond)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()

	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	iso, err := cni.New(l.cfg)
	require.NoError(t, err)
	_, err = iso.Sweep(short, func(string) bool { return false })
	assert.ErrorIs(t, err, context.DeadlineExceeded, "the plugin still adds")
	assert.ErrorContains(t, err, "waiting for the plugins of an earlier process")
	assert.Equal(t, []string{"ADD test-web eth0 "}, lines(t, log))

	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	h, _ := l.open()
	_, err = h.Sandbox(l.ctx(), "web")
	assert.ErrorIs(t, err, isolation.ErrNotFound)
	require.Len(t, h.Recovered(), 1)
	assert.NoError(t, h.Recovered()[0].Err)
	assert.Equal(t, []string{"ADD test-web eth0 ", "added", "DEL test-web eth0 ", "without a result"}, lines(t, log))
	l.nothing()
	require.NoError(t, h.Remove(l.ctx()))
	require.NoError(t, h.Close())
}

// A crash behind the last plugin, in front of the words that it is done and what
// its result is; and one in front of the first plugin.
func TestCrashBeforeRecord(t *testing.T) {
	l := newLab(t)
	dir, log := withFault(t)
	l.cfg.Plugins = append(l.cfg.Plugins, dir)
	l.cfg.Lists = [][]byte{l.lan(fmt.Sprintf(`, {"type": "fault", "log": %q}`, log))}
	record := filepath.Join(l.cfg.State, "web", "record")
	for what, crash := range map[string]func(){
		"the result is written, that it is whole is not": func() {
			text, err := os.ReadFile(record)
			require.NoError(t, err)
			begun := strings.Replace(string(text), `,"done":true`, "", 1)
			require.NotEqual(t, begun, string(text))
			require.NoError(t, os.WriteFile(record, []byte(begun), 0o600))
		},
		"no result is written": func() {
			text, err := os.ReadFile(record)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(record, []byte(strings.Replace(string(text), `,"done":true`, "", 1)), 0o600))
			require.NoError(t, os.RemoveAll(filepath.Join(l.cfg.State, "web", "results")))
		},
		"the namespace is gone": func() {
			require.NoError(t, namespaces.Unpin(filepath.Join(l.cfg.Pins, "caisson-cni-test-web")))
		},
	} {
		h, _ := l.open()
		_, err := h.Create(l.ctx(), l.spec("web"))
		require.NoError(t, err, what)
		require.NoError(t, h.Close())
		crash()
		require.NoError(t, os.RemoveAll(log))
		h, _ = l.open()
		_, err = h.Sandbox(l.ctx(), "web")
		assert.ErrorIs(t, err, isolation.ErrNotFound, what)
		said := lines(t, log)
		require.NotEmpty(t, said, what)
		assert.Equal(t, "DEL test-web eth0 ", said[0], what)
		assert.Equal(t, strings.HasPrefix(what, "no result"), len(said) == 2, what)
		l.nothing()
		require.NoError(t, h.Remove(l.ctx()))
		require.NoError(t, h.Close())
	}
	// In front of the first plugin there is a directory, and perhaps a pin.
	require.NoError(t, os.MkdirAll(filepath.Join(l.cfg.State, "web"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(l.cfg.Pins, "caisson-cni-test-web"), nil, 0))
	require.NoError(t, os.RemoveAll(log))
	iso, err := cni.New(l.cfg)
	require.NoError(t, err)
	removed, err := iso.Sweep(l.ctx(), func(string) bool { return false })
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, removed)
	assert.Empty(t, lines(t, log))
	l.nothing()
}

// The network of a spec that has one is not the plugins'.
func TestNotBoth(t *testing.T) {
	l := newLab(t)
	l.cfg.Lists = [][]byte{l.lan("")}
	l.cfg.Select = func(isolation.Spec) (cni.Arguments, bool) { return cni.Arguments{}, true }
	h, _ := l.open()
	s := l.spec("web")
	s.Network.Mode = netns.ModeHost
	_, err := h.Create(l.ctx(), s)
	assert.ErrorIs(t, err, isolation.ErrInvalid)
	require.NoError(t, os.MkdirAll(l.cfg.State, 0o700))
	l.nothing()
	require.NoError(t, h.Remove(l.ctx()))
	require.NoError(t, h.Close())
}
