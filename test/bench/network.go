// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/vishvananda/netlink"
)

// attach is one way to give a sandbox a network. make is timed, drop is not.
type attach struct {
	name  string
	make  func() error
	drop  func() error
	err   error // why it does not take part
	times []time.Duration
}

const (
	rowRawNetwork  = "raw netlink messages"
	rowColdNetwork = "caisson"
	rowWarmNetwork = "caisson, kept ready"
	rowCNI         = "CNI: bridge, host-local, bandwidth"
	rowPlain       = "launch without a network"
	rowLaunchWarm  = "launch, network kept ready"
	rowLaunchCold  = "launch, network made"
)

// settle is time for the kernel to take apart what was dropped, and for the warm
// pool to fill.
const settle = 25 * time.Millisecond

// networkTable compares what it takes to connect a sandbox: a namespace that is
// pinned, a veth to a bridge, an address, a route, and a limit in each direction.
// Everything is in a network namespace of its own.
func networkTable(ctx context.Context, p *place, o options) (t *table, err error) {
	m, err := newMachine(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	all := []*attach{m.raw(), m.network(ctx, rowColdNetwork, "cold", 0), m.network(ctx, rowWarmNetwork, "warm", 8), m.cni(ctx, p),
		m.launch(ctx, p, rowPlain, false, 0), m.launch(ctx, p, rowLaunchWarm, true, 8), m.launch(ctx, p, rowLaunchCold, true, 0)}
	rounds := o.rounds
	if o.quick {
		rounds = 2
	}
	for _, a := range all {
		for range 2 { // warm
			a.once(false)
		}
	}
	begin := time.Now()
	for range rounds {
		if time.Since(begin) > o.limit {
			break
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, a := range all {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			a.once(true)
		}
	}
	return judgeNetwork(all, len(all[0].times)), nil
}

func (a *attach) once(count bool) {
	if a.err != nil {
		return
	}
	begin := time.Now()
	err := a.make()
	took := time.Since(begin)
	err = errors.Join(err, a.drop())
	time.Sleep(settle)
	if err != nil {
		a.err = err
		return
	}
	if count {
		a.times = append(a.times, took)
	}
}

func judgeNetwork(all []*attach, rounds int) *table {
	t := &table{
		Name:    "network",
		Title:   fmt.Sprintf("Connect a sandbox: namespace, veth, bridge, address, route, two limits; %d rounds", rounds),
		Columns: []string{"median", "p95", "min"},
		Notes: []string{
			"raw: the same messages to the kernel with nothing in between but the library that writes them.",
			"launch: create and start a sandbox, with the bar on what a network kept ready adds to one without (median).",
		},
	}
	med := map[string]float64{}
	for _, name := range []string{rowRawNetwork, rowColdNetwork, rowWarmNetwork, rowCNI, rowPlain, rowLaunchWarm, rowLaunchCold} {
		for _, a := range all {
			if a.name != name {
				continue
			}
			r := &row{Name: name}
			if a.err != nil {
				r.Absent = a.err.Error()
			} else {
				r.Values = spread(a.times)
				med[name] = r.Values["median"]
			}
			switch {
			case a.err != nil:
			case name == rowColdNetwork && med[rowRawNetwork] > 0:
				r.Bars = append(r.Bars, atMost("raw x", med[name]/med[rowRawNetwork], 1.3))
			case name == rowLaunchWarm && med[rowPlain] > 0:
				r.Bars = append(r.Bars, atMost("ms more", (med[name]-med[rowPlain])/1e6, 1))
			}
			t.Rows = append(t.Rows, r)
		}
	}
	return t
}

// machine is the network namespace that stands for the machine's, with a bridge.
type machine struct {
	ns   *namespaces.Handle
	path string // where it is pinned
	dir  string
	ends []func() error
}

var benchSubnet = netip.MustParsePrefix("10.77.0.0/16")

func newMachine(ctx context.Context, p *place) (m *machine, err error) {
	m = &machine{dir: filepath.Join(p.state, "net"), path: filepath.Join(p.state, "machine")}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	if m.ns, err = namespaces.Create(namespaces.Network); err != nil {
		return nil, err
	}
	if err := m.ns.Pin(m.path); err != nil {
		return nil, errors.Join(err, m.ns.Close())
	}
	err = namespaces.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.77.0.1/16")
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(bridge, addr), netlink.LinkSetUp(bridge))
	}, m.ns)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *machine) close() error {
	var errs []error
	for _, end := range m.ends {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, namespaces.Unpin(m.path), m.ns.Close())...)
}

func benchNetwork() netns.Spec {
	limit := netns.BitsPerSecond(1e9)
	return netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
		Kind: netns.Veth, Bridge: "br0", Pools: []string{"lan"}, Bandwidth: netns.Bandwidth{Egress: limit, Ingress: limit},
	}}}
}

// lan is a part of the subnet, for one contestant.
func lan(part byte) netns.PoolConfig {
	return netns.PoolConfig{Name: "lan", Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, part, 0}), 24),
		Gateway: netip.AddrFrom4([4]byte{10, 77, part, 1}), Link: "br0", Quarantine: time.Millisecond}
}

// network is [netns.Network.Create].
func (m *machine) network(ctx context.Context, name, scope string, warm int) *attach {
	a := &attach{name: name}
	part := byte(1)
	if warm > 0 {
		part = 2
	}
	pins := filepath.Join(m.dir, scope)
	network, err := netns.OpenNetwork(ctx, netns.Config{Scope: scope, Machine: m.ns, Pins: pins, State: filepath.Join(m.dir, scope+"-state"),
		Pools: []netns.PoolConfig{lan(part)}, Warm: warm})
	if err != nil {
		a.err = err
		return a
	}
	m.ends = append(m.ends, func() error { return errors.Join(network.Pins().Discard(), network.Close()) })
	time.Sleep(20 * settle)
	var made *netns.Attachment
	a.make = func() (err error) {
		made, err = network.Create(ctx, "bench", benchNetwork())
		return err
	}
	a.drop = func() error { return errors.Join(made.Close(), network.Destroy(ctx, "bench")) }
	return a
}

// launch creates and starts a sandbox.
func (m *machine) launch(ctx context.Context, p *place, name string, networked bool, warm int) *attach {
	a := &attach{name: name}
	key := fmt.Sprintf("net-%v-%d", networked, warm)
	cfg := isolation.Config{Root: filepath.Join(p.state, key), Parent: p.name + "-" + key}
	spec := idle("bench")
	if networked {
		cfg.NetworkNamespace = m.path
		cfg.Network = netns.Config{Pins: filepath.Join(m.dir, key), Pools: []netns.PoolConfig{lan(byte(3 + warm))}, Warm: warm}
		spec.Network = benchNetwork()
	}
	host, err := isolation.Open(ctx, cfg)
	if err != nil {
		a.err = err
		return a
	}
	m.ends = append(m.ends, func() error {
		ctx := context.WithoutCancel(ctx)
		return errors.Join(host.Destroy(ctx, "bench"), host.Remove(ctx), host.Close())
	})
	time.Sleep(20 * settle)
	a.make = func() error {
		s, err := host.Create(ctx, spec)
		if err == nil {
			err = s.Start(ctx)
		}
		return err
	}
	a.drop = func() error { return host.Destroy(ctx, "bench") }
	return a
}

// cni runs the plugins as libcni does: one after the other, each with the result
// of the one before.
func (m *machine) cni(ctx context.Context, p *place) *attach {
	a := &attach{name: rowCNI}
	const plugins = "/usr/lib/cni"
	if _, err := os.Stat(plugins + "/bandwidth"); err != nil {
		a.err = fmt.Errorf("%w: %s of containernetworking-plugins", errNotInstalled, plugins)
		return a
	}
	pin := filepath.Join(m.dir, "cni")
	common := `"cniVersion": "1.0.0", "name": "bench"`
	bridge := fmt.Sprintf(`{%s, "type": "bridge", "bridge": "br0", "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.77.0.0/16", "rangeStart": "10.77.200.2", "rangeEnd": "10.77.201.200", "gateway": "10.77.0.1"}]],
		"routes": [{"dst": "0.0.0.0/0"}]}}`, common, filepath.Join(m.dir, "host-local"))
	bandwidth := func(result string) string {
		return fmt.Sprintf(`{%s, "type": "bandwidth", "ingressRate": 1000000000, "ingressBurst": 10000000, "egressRate": 1000000000,
			"egressBurst": 10000000, "prevResult": %s}`, common, result)
	}
	run := func(command, plugin, config string) (string, error) {
		var out, errOut strings.Builder
		err := namespaces.Do(func() error {
			cmd := exec.CommandContext(ctx, filepath.Join(plugins, plugin))
			cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=bench", "CNI_NETNS=" + pin, "CNI_IFNAME=eth0", "CNI_PATH=" + plugins, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(config), &out, &errOut
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s %s: %w: %s%s", command, plugin, err, errOut.String(), out.String())
			}
			return nil
		}, m.ns)
		return out.String(), err
	}
	var result string
	a.make = func() error {
		ns, err := namespaces.Create(namespaces.Network)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := ns.Pin(pin); err != nil {
			return err
		}
		if result, err = run("ADD", "bridge", bridge); err != nil {
			return err
		}
		_, err = run("ADD", "bandwidth", bandwidth(result))
		return err
	}
	a.drop = func() error {
		_, err1 := run("DEL", "bandwidth", bandwidth(result))
		_, err2 := run("DEL", "bridge", bridge)
		return errors.Join(err1, err2, namespaces.Unpin(pin))
	}
	return a
}
