// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
)

// Bounds of what comes from outside.
const (
	maxInterfaces = 16
	maxEach       = 64 // addresses, routes, ports and the like
	minMTU        = 68 // RFC 791
	maxMTU        = 65535
)

// Validate reports everything that is wrong with the spec, without looking at
// the machine: each part of the joined error is an [*namespaces.InvalidError].
func (s Spec) Validate() error {
	if s.IsZero() {
		return nil
	}
	v := &validator{}
	switch s.Mode {
	case "":
		v.bad("network.mode", "", "a network needs a mode")
	case ModeNew:
	case ModeHost, ModeJoin:
		if len(s.Interfaces)+len(s.Sysctls)+len(s.Ports) > 0 || s.Isolated {
			v.bad("network.mode", string(s.Mode), "only a new network has interfaces, sysctls and ports")
		}
	default:
		v.bad("network.mode", string(s.Mode), `not "new", "host" or "join"`)
	}
	if (s.Mode == ModeJoin) != (s.Join != "") {
		v.bad("network.join", s.Join, "goes with the mode join, and only with that")
	}
	if strings.HasPrefix(s.Join, "/") {
		if path.Clean(s.Join) != s.Join || strings.ContainsRune(s.Join, 0) || len(s.Join) > 4000 {
			v.bad("network.join", s.Join, "not a clean path")
		}
	} else if s.Join != "" {
		v.add(checkOwner(s.Join))
	}
	if s.Isolated {
		for _, n := range s.Interfaces {
			if n.Kind != Veth {
				v.bad("network.isolated", string(n.Kind), "only a veth can be kept apart")
			}
		}
	}
	v.interfaces(s.Interfaces)
	v.sysctls(s.Sysctls)
	v.add(s.DNS.Validate())
	v.ports(s.Ports)
	return errors.Join(v.errs...)
}

type validator struct{ errs []error }

func (v *validator) add(err error) {
	if err != nil {
		v.errs = append(v.errs, err)
	}
}

func (v *validator) bad(field, value, reason string) {
	v.add(&namespaces.InvalidError{Field: field, Value: clip(value), Reason: reason})
}

func (v *validator) most(field string, n int) {
	if n > maxEach {
		v.bad(field, strconv.Itoa(n), fmt.Sprintf("more than %d", maxEach))
	}
}

func (v *validator) interfaces(all []Interface) {
	if len(all) > maxInterfaces {
		v.bad("network.interfaces", strconv.Itoa(len(all)), fmt.Sprintf("more than %d", maxInterfaces))
	}
	names := map[string]bool{Loopback: true}
	defaults := map[bool]bool{}
	for i, n := range all {
		name := n.name(i)
		v.add(checkName(name))
		if names[name] {
			v.bad("interface name", name, "taken")
		}
		names[name] = true
		v.kind(n)
		if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
			v.bad("mtu", strconv.Itoa(n.MTU), "not 68 to 65535")
		}
		if mac, err := net.ParseMAC(n.MAC); n.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0 || allZero(mac)) {
			v.bad("mac", n.MAC, "not a unicast address of 6 bytes")
		}
		v.addresses(n)
		for _, gw := range n.Gateways {
			if defaults[gw.Is4()] {
				v.bad("gateway", gw.String(), "a second default route")
			}
			defaults[gw.Is4()] = true
		}
		v.add(n.Bandwidth.Validate())
	}
}

func (v *validator) kind(n Interface) {
	wrong := func(field, value string) {
		if value != "" {
			v.bad(field, value, "not for "+string(n.Kind))
		}
	}
	needsParent := func() {
		wrong("bridge", n.Bridge)
		v.add(checkName(n.Parent))
		if !n.Bandwidth.Ingress.IsZero() {
			v.bad("ingress", n.Bandwidth.Ingress.String(), "what arrives can only be limited on a veth, at the machine's end")
		}
	}
	submodes := []string{""}
	switch n.Kind {
	case Veth:
		wrong("parent", n.Parent)
		if n.Bridge != "" {
			v.add(checkName(n.Bridge))
		} else if len(n.Gateways) > 0 {
			v.bad("gateway", n.Gateways[0].String(), "a routed interface has its own")
		}
	case Macvlan:
		needsParent()
		submodes = append(submodes, "bridge", "private", "vepa", "passthru")
	case IPVlan:
		needsParent()
		wrong("mac", n.MAC)
		submodes = append(submodes, "l2", "l3", "l3s")
	case Physical:
		needsParent()
		if _, set := n.Bandwidth.Priority.Value(); set {
			v.bad("priority", n.Bandwidth.Priority.String(), "a link that is moved in is nobody else's")
		}
	default:
		v.bad("interface kind", string(n.Kind), `not "veth", "macvlan", "ipvlan" or "physical"`)
	}
	if !slices.Contains(submodes, n.Submode) {
		v.bad("submode", n.Submode, "not one of "+string(n.Kind))
	}
}

func (v *validator) addresses(n Interface) {
	v.most("addresses", len(n.Addrs))
	v.most("routes", len(n.Routes))
	v.most("pools", len(n.Pools))
	seen := map[netip.Addr]bool{}
	for _, p := range n.Addrs {
		switch a := p.Addr(); {
		case !p.IsValid() || a.Zone() != "" || a.Is4In6():
			v.bad("address", p.String(), "not an address with a prefix length, like 10.0.0.2/24")
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			v.bad("address", p.String(), "no address of a machine")
		case seen[a]:
			v.bad("address", p.String(), "named twice")
		default:
			seen[a] = true
		}
	}
	for _, p := range n.Pools {
		v.add(checkPoolName(p))
	}
	for _, gw := range n.Gateways {
		if !usableHop(gw) {
			v.bad("gateway", gw.String(), "no address of a router")
		}
	}
	for _, r := range n.Routes {
		switch {
		case !r.To.IsValid() || r.To.Addr().Is4In6() || r.To != r.To.Masked():
			v.bad("route", r.To.String(), "not a network like 10.1.0.0/16")
		case r.Via.IsValid() && (!usableHop(r.Via) || r.Via.Is4() != r.To.Addr().Is4()):
			v.bad("route", r.Via.String(), "no next hop to "+r.To.String())
		}
	}
}

func usableHop(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
}

func (v *validator) ports(all []Port) {
	v.most("ports", len(all))
	seen := map[Port]bool{}
	for _, p := range all {
		p = p.normal()
		switch key := (Port{Protocol: p.Protocol, Host: p.Host, Address: p.Address}); {
		case p.Protocol != TCP && p.Protocol != UDP:
			v.bad("port", string(p.Protocol), `not "tcp" or "udp"`)
		case p.Host == 0:
			v.bad("port", p.String(), "no port of the machine")
		case p.Address.IsValid() && (p.Address.Zone() != "" || p.Address.Is4In6() || p.Address.IsUnspecified()):
			v.bad("port", p.String(), "no address of the machine; none means all")
		case seen[key]:
			v.bad("port", p.String(), "published twice")
		default:
			seen[key] = true
		}
	}
}

// String reads "8080:80/tcp", "192.0.2.1:8080:80/tcp".
func (p Port) String() string {
	p = p.normal()
	s := fmt.Sprintf("%d:%d/%s", p.Host, p.Sandbox, p.Protocol)
	if p.Address.Is6() {
		return "[" + p.Address.String() + "]:" + s
	}
	if p.Address.IsValid() {
		return p.Address.String() + ":" + s
	}
	return s
}

// ParsePort reads [ADDRESS:]HOST[:SANDBOX][/PROTOCOL], an IPv6 ADDRESS in
// brackets. The error matches [ErrInvalid].
func ParsePort(text string) (Port, error) {
	bad := func(reason string) (Port, error) {
		return Port{}, &namespaces.InvalidError{Field: "port", Value: clip(text), Reason: reason}
	}
	var p Port
	rest, proto, given := strings.Cut(text, "/")
	if p.Protocol = Protocol(proto); given && proto == "" {
		return bad("no protocol behind the slash")
	}
	var err error
	if strings.HasPrefix(rest, "[") {
		addr, tail, ok := strings.Cut(rest[1:], "]:")
		if p.Address, err = netip.ParseAddr(addr); !ok || err != nil || !p.Address.Is6() {
			return bad("not [IPV6]:HOST:SANDBOX")
		}
		rest = tail
	} else if strings.Contains(rest, ".") {
		addr, tail, _ := strings.Cut(rest, ":")
		if p.Address, err = netip.ParseAddr(addr); err != nil {
			return bad("not IPV4:HOST:SANDBOX")
		}
		rest = tail
	}
	host, inside, both := strings.Cut(rest, ":")
	h, err := strconv.ParseUint(host, 10, 16)
	if err != nil {
		return bad("not [ADDRESS:]HOST[:SANDBOX][/PROTOCOL]")
	}
	p.Host = uint16(h)
	if both {
		s, err := strconv.ParseUint(inside, 10, 16)
		if err != nil || s == 0 {
			return bad("not [ADDRESS:]HOST[:SANDBOX][/PROTOCOL]")
		}
		p.Sandbox = uint16(s)
	}
	v := &validator{}
	v.ports([]Port{p})
	if len(v.errs) > 0 {
		return Port{}, errors.Join(v.errs...)
	}
	return p.normal(), nil
}

func allZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// clip keeps hostile values from flooding messages.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
