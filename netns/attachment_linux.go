// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/caisson-run/caisson/internal/rtnl"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// Attachment is the network that a sandbox has. It is safe for concurrent use.
type Attachment struct {
	network *Network
	owner   string
	spec    Spec
	ns      *namespaces.Handle
	inside  *Handle
	plugs   []*plug
	warm    *prepared // until make has used it
}

// plug is one interface on its way.
type plug struct {
	Interface
	name     string
	machine  string // the other end of a veth
	addrs    []netip.Prefix
	gateways []netip.Addr

	mac, machineMAC           net.HardwareAddr // of a veth
	machineIndex, insideIndex int
}

func (p *plug) routed() bool { return p.Kind == Veth && p.Bridge == "" }

// begin pins a namespace for the owner.
func (a *Attachment) begin(ctx context.Context) (err error) {
	n, pin := a.network, a.network.pinName(a.owner)
	if in := a.spec.Interfaces; len(in) > 0 && in[0].Kind == Veth {
		a.warm = n.warm.take()
	}
	if a.warm == nil {
		if a.warm, err = prepare(ctx); err != nil {
			return err
		}
	}
	if err := n.pins.Pin(pin, a.warm.ns); err != nil {
		return errors.Join(err, a.warm.close())
	}
	a.ns, a.inside = a.warm.ns, a.warm.inside
	return nil
}

// make makes everything in the namespace that begin has pinned.
func (a *Attachment) make(ctx context.Context) error {
	if err := a.address(ctx); err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	if err := a.writeSysctls(); err != nil {
		return err
	}
	if err := a.configure(ctx); err != nil {
		return err
	}
	if err := a.lead(ctx); err != nil {
		return err
	}
	for i, p := range a.plugs {
		has := Bandwidth{}
		if i == 0 {
			has = a.warm.like.limits
		}
		if err := a.shapeNew(ctx, p, has); err != nil {
			return err
		}
	}
	return a.publish(ctx)
}

// address gathers the interfaces' addresses and gateways.
func (a *Attachment) address(ctx context.Context) error {
	used := map[string]int{}
	veths := 0
	for i, in := range a.spec.Interfaces {
		p := &plug{Interface: in, name: in.name(i), addrs: slices.Clone(in.Addrs), gateways: slices.Clone(in.Gateways)}
		if p.Kind == Veth {
			p.machine = a.network.linkName(a.owner, veths)
			p.mac, p.machineMAC = a.network.macs(a.owner, veths)
			veths++
		}
		if in.MAC != "" {
			p.mac, _ = net.ParseMAC(in.MAC)
		}
		for _, name := range in.Pools {
			pool := a.network.pools[name]
			prefix, err := pool.Allocate(ctx, a.owner, used[name])
			if err != nil {
				return err
			}
			used[name]++
			p.addrs = append(p.addrs, prefix)
			gw := pool.cfg.Gateway
			same := func(o netip.Addr) bool { return o.Is4() == gw.Is4() }
			if gw.IsValid() && !p.routed() && !slices.ContainsFunc(p.gateways, same) && !a.hasDefault(gw.Is4()) {
				p.gateways = append(p.gateways, gw)
			}
		}
		a.plugs = append(a.plugs, p)
	}
	return nil
}

// hasDefault reports whether an earlier interface leads everywhere.
func (a *Attachment) hasDefault(v4 bool) bool {
	return slices.ContainsFunc(a.plugs, func(p *plug) bool {
		return slices.ContainsFunc(p.gateways, func(gw netip.Addr) bool { return gw.Is4() == v4 }) ||
			p.routed() && slices.ContainsFunc(p.addrs, func(q netip.Prefix) bool { return q.Addr().Is4() == v4 })
	})
}

// find fills in what an earlier process made.
func (a *Attachment) find(ctx context.Context) (err error) {
	if a.inside, err = Open(a.ns); err != nil || a.spec.Mode != ModeNew {
		return err
	}
	links, err := a.inside.Links(ctx)
	if err != nil {
		return err
	}
	veths, used := 0, make(map[string]int)
	for i, in := range a.spec.Interfaces {
		p := &plug{Interface: in, name: in.name(i)}
		at := slices.IndexFunc(links, func(l Link) bool { return l.Name == p.name })
		if at < 0 {
			return &OpError{Op: "find", Link: p.name, NS: a.inside.id, Err: noLink{}}
		}
		p.insideIndex, p.MTU = links[at].Index, links[at].MTU
		for _, addr := range links[at].Addrs {
			if !addr.Addr().IsLinkLocalUnicast() || slices.Contains(in.Addrs, addr) {
				p.addrs = append(p.addrs, addr)
			}
		}
		if err := a.holdAddrs(ctx, p, used); err != nil {
			return err
		}
		if p.Kind == Veth {
			p.machine = a.network.linkName(a.owner, veths)
			veths++
			end, err := a.network.machine.Link(ctx, p.machine)
			if err != nil {
				return err
			}
			p.machineIndex = end.Index
		}
		if err := a.findPriority(ctx, p); err != nil {
			return err
		}
		a.plugs = append(a.plugs, p)
	}
	return a.publish(ctx) // again, if somebody took the rules away
}

// holdAddrs sees to it that the addresses of an interface are leased, should the
// pools' files have been lost. used counts those of earlier interfaces.
func (a *Attachment) holdAddrs(ctx context.Context, p *plug, used map[string]int) error {
	for _, name := range p.Pools {
		pool := a.network.pools[name]
		if pool == nil {
			continue
		}
		for _, addr := range p.addrs {
			if !pool.cfg.Subnet.Contains(addr.Addr()) {
				continue
			}
			if err := pool.hold(ctx, a.owner, used[name], addr.Addr()); err != nil {
				return err
			}
		}
		used[name]++
	}
	return nil
}

// connect makes the links, those of the machine and their ends inside.
func (a *Attachment) connect(ctx context.Context) error {
	for _, p := range a.plugs {
		switch p.Kind {
		case Veth:
			if err := a.connectVeth(ctx, p); err != nil {
				return err
			}
		case Physical:
			if err := a.network.moveIn(ctx, a.owner, p.Parent, a.ns); err != nil {
				return err
			}
		default:
			if err := a.connectChild(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// connectVeth makes a pair, or takes over the one that waits in the namespace.
func (a *Attachment) connectVeth(ctx context.Context, p *plug) error {
	machine := a.network.machine
	like := likeness{isolated: a.spec.Isolated, hairpin: len(a.spec.Ports) > 0, mtu: p.MTU, limits: p.Bandwidth}
	if like.bridge = p.Bridge; p.Bridge == "" {
		like.isolated, like.hairpin = false, false
	} else if mtu, err := a.findBridge(ctx, p, &like); err != nil {
		return err
	} else if p.MTU == 0 {
		p.MTU, like.mtu = mtu, mtu
	}
	alias := a.network.alias(a.owner)
	if w := a.warm; w.machineIndex != 0 && p == a.plugs[0] {
		p.machineIndex, p.insideIndex, p.machineMAC = w.machineIndex, w.insideIndex, w.machineMAC
		take := func() error {
			_, err := once(ctx, machine, "take", p.machine, func(s *netlink.Handle) (struct{}, error) {
				end := rtnl.Link{Name: p.machine, Alias: alias, MTU: w.newMTU(p.MTU), Master: like.index, Up: true}
				if err := machine.direct.SetLink(p.machineIndex, end); err != nil {
					return struct{}{}, err
				}
				return struct{}{}, setPort(s, byIndex(p.machineIndex), like, w.like)
			})
			return err
		}
		if err := a.network.retry(ctx, a.owner, p.machine, take(), take); err != nil {
			return err
		}
		a.network.warm.learn(like)
		if p.name == warmName {
			return nil
		}
		return a.inside.setLink(ctx, p.insideIndex, rtnl.Link{Name: p.name})
	}
	add := func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.Flags = p.machine, p.machineMAC, net.FlagUp
		attrs.MasterIndex, attrs.MTU = like.index, p.MTU
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.name, PeerHardwareAddr: p.mac, PeerMTU: uint32(p.MTU),
			PeerNamespace: netlink.NsFd(a.ns.FD())}
		index, err := once(ctx, machine, "make", p.machine, func(s *netlink.Handle) (int, error) {
			if err := s.LinkAdd(veth); err != nil {
				return 0, noKind(string(p.Kind), err)
			}
			if err := s.LinkSetAlias(veth, alias); err != nil {
				return 0, err
			}
			return veth.Index, setPort(s, veth, like, likeness{})
		})
		p.machineIndex = index
		return err
	}
	if err := a.network.retry(ctx, a.owner, p.machine, add(), add); err != nil {
		return err
	}
	if p == a.plugs[0] {
		a.network.warm.learn(like)
	}
	return nil
}

// findBridge looks for the bridge of a veth, and returns its MTU.
func (a *Attachment) findBridge(ctx context.Context, p *plug, like *likeness) (mtu int, err error) {
	if w := a.warm.like; w.bridge == p.Bridge {
		if like.index, mtu, err = a.network.machine.direct.Index(p.Bridge); err == nil && like.index == w.index {
			return mtu, nil // and known to be a bridge
		}
	}
	bridge, err := do(ctx, a.network.machine, "look at", p.Bridge, func(s *netlink.Handle) (netlink.Link, error) {
		return s.LinkByName(p.Bridge)
	})
	if err != nil {
		return 0, err
	}
	if bridge.Type() != "bridge" {
		return 0, &namespaces.InvalidError{Field: "bridge", Value: p.Bridge, Reason: "a link of kind " + bridge.Type()}
	}
	like.index = bridge.Attrs().Index
	return bridge.Attrs().MTU, a.network.steady(ctx, bridge.Attrs())
}

// steady keeps a bridge from changing its address with its ports: it takes the
// lowest of them unless it was given one, so that any sandbox that comes or goes
// would cut the others off from the machine until they ask for its address again.
// One from hardware is left alone: ours are above it.
func (n *Network) steady(ctx context.Context, bridge *netlink.LinkAttrs) error {
	if _, done := n.steadied.LoadOrStore(bridge.Index, true); done {
		return nil
	}
	_, err := do(ctx, n.machine, "keep the address of", bridge.Name, func(s *netlink.Handle) (struct{}, error) {
		links, err := s.LinkList()
		if err != nil {
			return struct{}{}, err
		}
		mac := bridge.HardwareAddr
		if len(mac) == 0 { // only zeros, since its last port has gone
			mac = randomMAC()
			mac[0] = localMAC
		}
		alone, borrowed := true, false
		for _, l := range links {
			if a := l.Attrs(); a.MasterIndex == bridge.Index {
				alone = false
				borrowed = borrowed || mac[0] == portMAC && bytes.Equal(a.HardwareAddr, mac)
			}
		}
		if !alone && !borrowed {
			return struct{}{}, nil
		}
		// Given the address that it has already, a bridge of Linux 5.10 takes in nothing
		// that is sent there, so it gets another one first.
		other := slices.Clone(mac)
		other[len(other)-1] ^= 1
		if err := s.LinkSetHardwareAddr(byIndex(bridge.Index), other); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.LinkSetHardwareAddr(byIndex(bridge.Index), mac)
	})
	if err != nil {
		n.steadied.Delete(bridge.Index)
	}
	return err
}

// setPort tells the bridge about its port, where that is not so yet: to keep the
// sandbox from others that are isolated, and to send back where it came from what a
// sandbox sends to its own published port.
func setPort(s *netlink.Handle, end netlink.Link, want, has likeness) error {
	if has.index != want.index { // a port that was just made is neither
		has.isolated, has.hairpin = false, false
	}
	if want.hairpin != has.hairpin {
		if err := s.LinkSetHairpin(end, want.hairpin); err != nil {
			return err
		}
	}
	if want.isolated == has.isolated {
		return nil
	}
	return noKind("isolated port of a bridge", s.LinkSetIsolated(end, want.isolated))
}

// connectChild makes a macvlan or ipvlan in the namespace.
func (a *Attachment) connectChild(ctx context.Context, p *plug) error {
	_, err := once(ctx, a.network.machine, "make "+string(p.Kind)+" on", p.Parent, func(s *netlink.Handle) (struct{}, error) {
		parent, err := s.LinkByName(p.Parent)
		if err != nil {
			return struct{}{}, err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.MTU, attrs.HardwareAddr = p.name, parent.Attrs().Index, p.MTU, p.mac
		attrs.Namespace = netlink.NsFd(a.ns.FD())
		return struct{}{}, noKind(string(p.Kind), s.LinkAdd(child(p.Interface, attrs)))
	})
	return err
}

func child(in Interface, attrs netlink.LinkAttrs) netlink.Link {
	if in.Kind == IPVlan {
		modes := map[string]netlink.IPVlanMode{"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2,
			"l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S}
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: modes[in.Submode]}
	}
	modes := map[string]netlink.MacvlanMode{"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE,
		"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU}
	return &netlink.Macvlan{LinkAttrs: attrs, Mode: modes[in.Submode]}
}

// publish sets the owner's rules.
func (a *Attachment) publish(ctx context.Context) error {
	if a.network.firewall == nil {
		return nil
	}
	r := Rules{Isolated: a.spec.Isolated, Ports: a.spec.Ports}
	for _, p := range a.plugs {
		for _, addr := range p.addrs {
			r.Addrs = append(r.Addrs, addr.Addr())
			if _, set := p.Bandwidth.Priority.Value(); set && p.Kind == Veth {
				if r.Priorities == nil {
					r.Priorities = map[netip.Addr]Priority{}
				}
				r.Priorities[addr.Addr()] = p.Bandwidth.Priority
			}
		}
	}
	if len(r.Addrs) == 0 {
		return nil
	}
	return a.network.firewall.Set(ctx, a.owner, r)
}

// Namespace is the sandbox's network namespace. It is the attachment's.
func (a *Attachment) Namespace() *namespaces.Handle { return a.ns }

// Inside is the handle on the sandbox's network namespace. It is the
// attachment's.
func (a *Attachment) Inside() *Handle { return a.inside }

// Interfaces are the links besides the loopback device, in the order of the
// spec.
func (a *Attachment) Interfaces() []Attached {
	var all []Attached
	for _, p := range a.plugs {
		all = append(all, Attached{Name: p.name, Machine: p.machine, Addrs: slices.Clone(p.addrs)})
	}
	return all
}

// Addrs are the addresses of all interfaces.
func (a *Attachment) Addrs() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range a.plugs {
		all = append(all, p.addrs...)
	}
	return all
}

// Close frees the descriptors. The network lives on. Closing twice is nil.
func (a *Attachment) Close() error {
	if a == nil {
		return nil
	}
	return errors.Join(a.inside.Close(), a.ns.Close())
}

// plugNamed is the interface called name inside; "" is the first.
func (a *Attachment) plugNamed(name string) (*plug, error) {
	for _, p := range a.plugs {
		if name == "" || p.name == name {
			return p, nil
		}
	}
	return nil, &OpError{Op: "find", Link: name, NS: a.ns.ID(), Err: fmt.Errorf("%w among the sandbox's interfaces", noLink{})}
}

const loopbackIndex = 1 // LOOPBACK_IFINDEX

// byIndex is a link of which only the index is known, which is all that the
// library needs.
func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}
