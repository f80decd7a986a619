// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/netns"
)

// netFlags are --net, and the limits of what it makes, in any order.
func netFlags(fs *flag.FlagSet, spec *isolation.Spec) {
	var limits netns.Bandwidth
	apply := func() {
		if all := spec.Network.Interfaces; len(all) > 0 {
			all[0].Bandwidth = limits
		}
	}
	fs.Func("net", "new or host: `MODE` of the network namespace; join:ID of another sandbox; or a link with its settings: "+
		"veth:bridge=br0,ip=10.0.0.2/24,gw=10.0.0.1 (without a bridge: routed), macvlan:parent=eth0,ip=..., ipvlan:..., physical:parent=eth1", func(s string) error {
		if err := parseNet(s, spec); err != nil {
			return err
		}
		apply()
		return nil
	})
	bandwidthFlags(fs, &limits, apply)
	fs.Func("publish", "`[ADDRESS:]HOST[:SANDBOX][/udp]`: a port of the machine that leads to one of the sandbox; may be repeated", func(s string) error {
		p, err := netns.ParsePort(s)
		spec.Network.Ports = append(spec.Network.Ports, p)
		return err
	})
	fs.BoolVar(&spec.Network.Isolated, "isolated", false, "keep the sandbox apart from others that are isolated")
	fs.Func("dns", "`ADDRESS` of a name server; may be repeated", func(s string) error {
		a, err := netip.ParseAddr(s)
		spec.Network.DNS.Servers = append(spec.Network.DNS.Servers, a)
		return err
	})
}

// bandwidthFlags are the limits of the first link; then is called for each.
func bandwidthFlags(fs *flag.FlagSet, b *netns.Bandwidth, then func()) {
	limit := func(name, usage string, to ...*netns.Limit) {
		fs.Func(name, usage, func(s string) error {
			l, err := netns.ParseLimit(s)
			if err != nil {
				return err
			}
			for _, t := range to {
				*t = l
			}
			then()
			return nil
		})
	}
	limit("net-rate", "`RATE` of the sandbox's link in each direction, 100mbit, or unlimited", &b.Egress, &b.Ingress)
	limit("net-egress", "`RATE` of what the sandbox sends", &b.Egress)
	limit("net-ingress", "`RATE` of what the sandbox receives", &b.Ingress)
	fs.Func("net-priority", "`PRIORITY` of what the sandbox sends: 0 to 15 (2 is bulk, 6 interactive), a class like 1:20, or default; instead of its class's", func(s string) (err error) {
		if b.Priority, err = netns.ParsePriority(s); err == nil {
			then()
		}
		return err
	})
}

func parseNet(s string, spec *isolation.Spec) error {
	kind, rest, _ := strings.Cut(s, ":")
	switch netns.LinkKind(kind) {
	case netns.Veth, netns.Macvlan, netns.IPVlan, netns.Physical:
	default:
		if kind == string(netns.ModeJoin) && rest != "" {
			spec.Network.Mode, spec.Network.Join = netns.ModeJoin, rest
			return nil
		}
		if s == "" {
			return errors.New("empty")
		}
		return spec.Namespaces.Network.UnmarshalText([]byte(s))
	}
	in := netns.Interface{Kind: netns.LinkKind(kind)}
	for rest != "" {
		var setting string
		setting, rest, _ = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(setting, "=")
		if err := setNet(&in, key, value); err != nil {
			return fmt.Errorf("%q: %w", setting, err)
		}
	}
	spec.Network.Mode = netns.ModeNew
	spec.Network.Interfaces = append(spec.Network.Interfaces, in)
	return nil
}

func setNet(in *netns.Interface, key, value string) (err error) {
	if value == "" {
		return errors.New("not KEY=VALUE")
	}
	switch key {
	case "bridge":
		in.Bridge = value
	case "parent":
		in.Parent = value
	case "mode":
		in.Submode = value
	case "name":
		in.Name = value
	case "mac":
		in.MAC = value
	case "mtu":
		in.MTU, err = strconv.Atoi(value)
	case "ip":
		var p netip.Prefix
		p, err = netip.ParsePrefix(value)
		in.Addrs = append(in.Addrs, p)
	case "gw":
		var a netip.Addr
		a, err = netip.ParseAddr(value)
		in.Gateways = append(in.Gateways, a)
	default:
		return errors.New("not bridge, parent, mode, name, mac, mtu, ip or gw")
	}
	return err
}
