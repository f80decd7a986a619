// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
)

// Mode says whose network a sandbox has.
type Mode string

// The modes of a [Spec]. The zero Spec has none, and asks for nothing.
const (
	ModeNew  Mode = "new"  // one of its own: a loopback device that is up, and Interfaces
	ModeHost Mode = "host" // the machine's
	ModeJoin Mode = "join" // that of Join
)

// Spec is the network of a sandbox: plain data, without I/O.
type Spec struct {
	Mode Mode `json:"mode,omitzero"`

	// Join is, in [ModeJoin], the owner of another network of the same
	// [Network], or the absolute path of a pinned namespace. Whoever made that
	// removes it.
	Join string `json:"join,omitzero"`

	// Interfaces are the links besides the loopback device, in [ModeNew].
	Interfaces []Interface `json:"interfaces,omitempty"`

	// Sysctls are kernel parameters of the new namespace, by their names below
	// /proc/sys in the manner of sysctl(8): "net.ipv4.ip_unprivileged_port_start".
	// Only net.* exists in a network namespace. They are written before the
	// interfaces come up, and those of an interface (net.ipv4.conf.eth0.*) once
	// it is there.
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// Isolated keeps the sandbox apart from all others that are isolated: neither
	// reaches the other but over published ports. On a bridge the bridge sees to it,
	// for a routed interface and between bridges the firewall of the [Network];
	// without one it is refused for routed interfaces.
	Isolated bool `json:"isolated,omitzero"`

	DNS DNS `json:"dns,omitzero"`

	// Ports are published on the machine's addresses, by the firewall of the
	// [Network]. Without one they are refused.
	Ports []Port `json:"ports,omitempty"`
}

// LinkKind is how an interface reaches the machine's network.
type LinkKind string

// The kinds of an [Interface].
const (
	// Veth is a pair of devices: one end inside, the other on the machine, in
	// Bridge, or with a route for each address if Bridge is empty.
	Veth LinkKind = "veth"
	// Macvlan is a device with a MAC address of its own on Parent. The machine
	// itself cannot be reached through it.
	Macvlan LinkKind = "macvlan"
	// IPVlan is a device on Parent that shares its MAC address.
	IPVlan LinkKind = "ipvlan"
	// Physical moves the machine's link Parent into the sandbox, and back when
	// the network is removed.
	Physical LinkKind = "physical"
)

// Interface is one link inside a sandbox.
type Interface struct {
	// Name is the link's name inside; empty is "eth0" for the first, "eth1" for
	// the second, and so on.
	Name string   `json:"name,omitzero"`
	Kind LinkKind `json:"kind"`

	Bridge string `json:"bridge,omitzero"` // of Veth: the machine's bridge; empty: routed
	Parent string `json:"parent,omitzero"` // of Macvlan, IPVlan and Physical: the machine's link

	// Submode is that of Macvlan ("bridge", which empty means, "private", "vepa",
	// "passthru") or IPVlan ("l2", which empty means, "l3", "l3s").
	Submode string `json:"submode,omitzero"`

	MTU int    `json:"mtu,omitzero"` // bytes; 0 is the parent's, for Veth the bridge's or the kernel's default
	MAC string `json:"mac,omitzero"` // as net.ParseMAC reads it, 6 bytes; empty is the kernel's or, for Veth, made of the owner's name

	// Addrs are addresses with the length of their subnet's prefix. A routed
	// Veth takes them as single addresses whatever the length.
	Addrs []netip.Prefix `json:"addrs,omitempty"`

	// Pools are pools of the [Network] to take one more address from, each.
	Pools []string `json:"pools,omitempty"`

	// Gateways become default routes, at most one for each address family. Empty
	// is the gateways of Pools; a routed Veth has its own and takes none.
	Gateways []netip.Addr `json:"gateways,omitempty"`

	Routes []Route `json:"routes,omitempty"`

	// Bandwidth limits and ranks the interface at first; [Attachment.SetBandwidth] changes
	// it later.
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
}

// Route is a route inside a sandbox, over the interface that it is listed with.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via,omitzero"` // the next hop; none: To is on the link
}

// Port publishes a port of the machine.
type Port struct {
	Protocol Protocol   `json:"protocol,omitzero"` // empty: "tcp"
	Host     uint16     `json:"host"`
	Sandbox  uint16     `json:"sandbox,omitzero"` // 0: the same as Host
	Address  netip.Addr `json:"address,omitzero"` // of the machine; none: all
}

// Protocol is a transport of a [Port].
type Protocol string

// The protocols that can be published.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// IsZero reports whether s asks for nothing.
func (s Spec) IsZero() bool {
	return s.Mode == "" && s.Join == "" && !s.Isolated && s.DNS.IsZero() && len(s.Interfaces)+len(s.Sysctls)+len(s.Ports) == 0
}

// Equal reports whether two specs ask for the same network.
func (s Spec) Equal(t Spec) bool { return reflect.DeepEqual(s.normal(), t.normal()) }

// Clone is a copy that shares nothing with s.
func (s Spec) Clone() Spec {
	s.Interfaces = slices.Clone(s.Interfaces)
	for i := range s.Interfaces {
		n := &s.Interfaces[i]
		n.Addrs, n.Pools = slices.Clone(n.Addrs), slices.Clone(n.Pools)
		n.Gateways, n.Routes = slices.Clone(n.Gateways), slices.Clone(n.Routes)
	}
	s.Sysctls = maps.Clone(s.Sysctls)
	s.DNS = s.DNS.clone()
	s.Ports = slices.Clone(s.Ports)
	return s
}

// normal has defaults spelled out, and nil for whatever is empty.
func (s Spec) normal() Spec {
	s = s.Clone()
	s.Interfaces = orNil(s.Interfaces)
	for i := range s.Interfaces {
		n := &s.Interfaces[i]
		n.Name = n.name(i)
		n.Addrs, n.Pools, n.Gateways, n.Routes = orNil(n.Addrs), orNil(n.Pools), orNil(n.Gateways), orNil(n.Routes)
	}
	if len(s.Sysctls) == 0 {
		s.Sysctls = nil
	}
	s.Ports = orNil(s.Ports)
	for i := range s.Ports {
		s.Ports[i] = s.Ports[i].normal()
	}
	d := &s.DNS
	d.Servers, d.Search, d.Options, d.Hosts = orNil(d.Servers), orNil(d.Search), orNil(d.Options), orNil(d.Hosts)
	return s
}

func (p Port) normal() Port {
	if p.Protocol == "" {
		p.Protocol = TCP
	}
	if p.Sandbox == 0 {
		p.Sandbox = p.Host
	}
	return p
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
