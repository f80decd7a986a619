// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/rtnl"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// The next hops of a routed veth. Neither needs to be an address of the machine:
// its MAC address is told to the sandbox, so nobody asks for it.
var (
	hop4 = netip.MustParseAddr("169.254.1.1")
	hop6 = netip.MustParseAddr("fe80::1")
)

// acceptDAD is whether an interface waits a second before it uses its link-local
// address, in case somebody else has it, and with it the first neighbors over IPv6
// that it asks for.
func acceptDAD(name string) string { return "net/ipv6/conf/" + name + "/accept_dad" }

// writeSysctls writes the parameters from inside, those of interfaces last.
func (a *Attachment) writeSysctls() error {
	sysctls := maps.Clone(a.spec.Sysctls)
	for _, p := range a.plugs {
		v6 := slices.ContainsFunc(p.addrs, func(q netip.Prefix) bool { return q.Addr().Is6() })
		if p.Kind != Veth || !v6 || p.insideIndex != 0 { // prepare has done it
			continue
		}
		key := acceptDAD(p.name)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(sysctls)), func(k string) bool { return sysctlPath(k) == key }) {
			if sysctls == nil {
				sysctls = map[string]string{}
			}
			sysctls[key] = "0" // its MAC address is made of its name, and nobody else's
		}
	}
	if len(sysctls) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(sysctls))
	slices.SortStableFunc(keys, func(x, y string) int {
		_, xi := ofInterface(x)
		_, yi := ofInterface(y)
		switch {
		case xi == yi:
			return 0
		case yi:
			return -1
		}
		return 1
	})
	return namespaces.Do(func() error {
		dir, err := kernfs.OpenDir("/proc/sys")
		if err != nil {
			return err
		}
		defer dir.Close()
		for _, key := range keys {
			name := sysctlPath(key)
			err := dir.WriteFile(name, sysctls[key])
			if errors.Is(err, os.ErrNotExist) {
				return &namespaces.UnsupportedError{Feature: "sysctl " + key, Reason: "network namespaces of this kernel have none", Err: err}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, a.ns)
}

// configure gives the links inside their addresses and routes, and sets them up.
func (a *Attachment) configure(ctx context.Context) error {
	_, err := once(ctx, a.inside, "configure", "", func(s *netlink.Handle) (struct{}, error) {
		if a.warm.machineIndex == 0 {
			if err := s.LinkSetUp(byIndex(loopbackIndex)); err != nil {
				return struct{}{}, err
			}
		}
		for _, p := range a.plugs {
			if err := ctx.Err(); err != nil {
				return struct{}{}, err
			}
			if err := a.configureLink(s, p); err != nil {
				return struct{}{}, &LinkError{p.name, err}
			}
		}
		// Routes last: a next hop may be reached over another interface.
		for _, p := range a.plugs {
			if err := addRoutes(s, p); err != nil {
				return struct{}{}, &LinkError{p.name, err}
			}
		}
		return struct{}{}, nil
	})
	return err
}

// configureLink finds the link, and sets it up with its addresses.
func (a *Attachment) configureLink(s *netlink.Handle, p *plug) error {
	if p.insideIndex != 0 { // it waited in a prepared namespace
		end := rtnl.Link{MAC: p.mac, MTU: a.warm.newMTU(p.MTU), Up: true}
		if err := a.inside.direct.SetLink(p.insideIndex, end); err != nil {
			return err
		}
		return addAddrs(s, p)
	}
	name := p.name
	if p.Kind == Physical {
		name = p.Parent
	}
	found, err := s.LinkByName(name)
	if err != nil {
		return err
	}
	p.insideIndex = found.Attrs().Index
	link := byIndex(p.insideIndex)
	if p.Kind == Physical {
		if p.name != p.Parent {
			if err := s.LinkSetName(link, p.name); err != nil {
				return err
			}
		}
		if p.mac != nil {
			if err := s.LinkSetHardwareAddr(link, p.mac); err != nil {
				return err
			}
		}
		if p.MTU != 0 {
			if err := s.LinkSetMTU(link, p.MTU); err != nil {
				return err
			}
		}
	}
	p.MTU = cmp.Or(p.MTU, found.Attrs().MTU)
	if err := addAddrs(s, p); err != nil {
		return err
	}
	return s.LinkSetUp(link)
}

func addAddrs(s *netlink.Handle, p *plug) error {
	for _, addr := range p.addrs {
		if p.routed() {
			addr = single(addr.Addr())
		}
		a := &netlink.Addr{IPNet: ipNet(addr)}
		if addr.Addr().Is6() {
			// Whoever chose the address made sure that it is nobody else's, and
			// it can be used at once.
			a.Flags = syscall.IFA_F_NODAD
		}
		if err := s.AddrAdd(byIndex(p.insideIndex), a); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes adds the routes over one link.
func addRoutes(s *netlink.Handle, p *plug) error {
	if p.routed() {
		if err := addHops(s, p); err != nil {
			return err
		}
	}
	for _, r := range p.Routes {
		route := &netlink.Route{LinkIndex: p.insideIndex, Dst: ipNet(r.To)}
		switch {
		case r.Via.IsValid():
			route.Gw = r.Via.AsSlice()
		case p.routed():
			hop := hopTo(r.To.Addr())
			route.Gw, route.Flags = hop.AsSlice(), int(netlink.FLAG_ONLINK)
		default:
			route.Scope = netlink.SCOPE_LINK
		}
		if err := s.RouteAdd(route); err != nil {
			return err
		}
	}
	for _, gw := range p.gateways {
		if err := s.RouteAdd(&netlink.Route{LinkIndex: p.insideIndex, Gw: gw.AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

// addHops leads everything to the machine's end of a routed veth, if there is
// such an address.
func addHops(s *netlink.Handle, p *plug) error {
	for _, hop := range []netip.Addr{hop4, hop6} {
		if !slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr().Is4() == hop.Is4() }) {
			continue
		}
		if err := s.NeighSet(neighbor(p.insideIndex, hop, p.machineMAC)); err != nil {
			return err
		}
		err := s.RouteAdd(&netlink.Route{LinkIndex: p.insideIndex, Gw: hop.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
		if err != nil {
			return err
		}
	}
	return nil
}

// lead has the machine send to a routed veth what is for its addresses.
func (a *Attachment) lead(ctx context.Context) error {
	for _, p := range a.plugs {
		if !p.routed() || len(p.addrs) == 0 {
			continue
		}
		_, err := once(ctx, a.network.machine, "add routes over", p.machine, func(s *netlink.Handle) (struct{}, error) {
			for _, addr := range p.addrs {
				if err := s.NeighSet(neighbor(p.machineIndex, addr.Addr(), p.mac)); err != nil {
					return struct{}{}, err
				}
				route := &netlink.Route{LinkIndex: p.machineIndex, Dst: ipNet(single(addr.Addr())), Scope: netlink.SCOPE_LINK}
				if err := s.RouteAdd(route); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func neighbor(index int, addr netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
}

func hopTo(a netip.Addr) netip.Addr {
	if a.Is4() {
		return hop4
	}
	return hop6
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// moveIn takes a link of the machine into ns. A note on disk and the link's alias
// tell how to bring it back.
func (n *Network) moveIn(ctx context.Context, owner, name string, ns *namespaces.Handle) error {
	if err := os.MkdirAll(n.moved, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.moved, owner), nil, 0o600); err != nil {
		return err
	}
	_, err := once(ctx, n.machine, "move", name, func(s *netlink.Handle) (struct{}, error) {
		link, err := s.LinkByName(name)
		if err != nil {
			return struct{}{}, err
		}
		if other := link.Attrs().Alias; strings.HasPrefix(other, aliasPrefix+" ") {
			return struct{}{}, &namespaces.InvalidError{Field: "parent", Value: name, Reason: "in use: " + clip(other)}
		}
		state := " down"
		if link.Attrs().RawFlags&syscall.IFF_UP != 0 {
			state = " up"
		}
		if err := s.LinkSetAlias(link, n.alias(owner)+" "+name+state); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.LinkSetNsFd(link, ns.FD())
	})
	return err
}

// giveBack returns what moveIn took.
func (n *Network) giveBack(ctx context.Context, owner, pin string) error {
	if n.moved == "" {
		return nil
	}
	note := filepath.Join(n.moved, owner)
	if _, err := os.Lstat(note); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	ns, err := n.pins.Open(pin)
	if err == nil {
		err = n.bringOut(ctx, owner, ns)
		_ = ns.Close()
	} else if errors.Is(err, os.ErrNotExist) || errors.Is(err, namespaces.ErrNotNamespace) {
		err = nil
	}
	if err != nil {
		return err
	}
	_, err = once(ctx, n.machine, "give back", "", func(s *netlink.Handle) (struct{}, error) {
		return struct{}{}, n.restore(s, owner)
	})
	if err != nil {
		return err
	}
	return os.Remove(note)
}

// bringOut moves links of the machine out of ns, under their old names.
func (n *Network) bringOut(ctx context.Context, owner string, ns *namespaces.Handle) error {
	inside, err := Open(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	_, err = once(ctx, inside, "give back", "", func(s *netlink.Handle) (struct{}, error) {
		return struct{}{}, n.eachMoved(s, owner, func(link netlink.Link, name string, _ bool) error {
			if err := s.LinkSetDown(link); err != nil {
				return err
			}
			if link.Attrs().Name != name {
				if err := s.LinkSetName(link, name); err != nil {
					return err
				}
			}
			return s.LinkSetNsFd(link, n.ns.FD())
		})
	})
	return err
}

// restore makes the machine's links what they were before moveIn.
func (n *Network) restore(s *netlink.Handle, owner string) error {
	return n.eachMoved(s, owner, func(link netlink.Link, _ string, up bool) error {
		if up {
			if err := s.LinkSetUp(link); err != nil {
				return err
			}
		}
		return s.LinkSetAlias(link, "")
	})
}

// eachMoved calls f for the links whose alias says that they were moved for the
// owner.
func (n *Network) eachMoved(s *netlink.Handle, owner string, f func(link netlink.Link, name string, up bool) error) error {
	links, err := s.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		rest, ours := strings.CutPrefix(l.Attrs().Alias, n.alias(owner)+" ")
		name, state, _ := strings.Cut(rest, " ")
		if !ours || checkName(name) != nil {
			continue
		}
		if err := f(l, name, state == "up"); err != nil {
			return &LinkError{l.Attrs().Name, err}
		}
	}
	return nil
}
