// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// DNS is what the files resolv.conf(5) and hosts(5) of a sandbox say. Where they
// are mounted is for whoever owns its file system.
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"` // at most three count for the C library
	Search  []string     `json:"search,omitempty"`  // domains to complete names with
	Options []string     `json:"options,omitempty"` // "ndots:2"
	Hosts   []HostEntry  `json:"hosts,omitempty"`   // besides localhost and the sandbox's own name
}

// HostEntry is a line of hosts(5).
type HostEntry struct {
	Addr  netip.Addr `json:"addr"`
	Names []string   `json:"names"`
}

// IsZero reports whether d says nothing.
func (d DNS) IsZero() bool { return len(d.Servers)+len(d.Search)+len(d.Options)+len(d.Hosts) == 0 }

func (d DNS) clone() DNS {
	d.Servers, d.Search, d.Options = slices.Clone(d.Servers), slices.Clone(d.Search), slices.Clone(d.Options)
	d.Hosts = slices.Clone(d.Hosts)
	for i := range d.Hosts {
		d.Hosts[i].Names = slices.Clone(d.Hosts[i].Names)
	}
	return d
}

// Validate reports everything that is wrong, as [*namespaces.InvalidError]: a
// word that would be another line of the file above all.
func (d DNS) Validate() error {
	v := &validator{}
	v.most("dns servers", len(d.Servers))
	v.most("dns hosts", len(d.Hosts))
	for _, a := range d.Servers {
		if !a.IsValid() || a.Is4In6() {
			v.bad("dns server", a.String(), "not an address")
		}
	}
	words := func(field string, list []string, empty bool) {
		v.most(field, len(list))
		if len(list) == 0 && !empty {
			v.bad(field, "", "no name")
		}
		for _, w := range list {
			if w == "" || len(w) > 253 || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == ';' }) {
				v.bad(field, w, "not 1 to 253 printable bytes without space, '#' and ';'")
			}
		}
	}
	words("dns search", d.Search, true)
	words("dns option", d.Options, true)
	for _, h := range d.Hosts {
		if !h.Addr.IsValid() || h.Addr.Is4In6() {
			v.bad("dns host", h.Addr.String(), "not an address")
		}
		words("dns host", h.Names, false)
	}
	return errors.Join(v.errs...)
}

// ResolvConf is the contents of /etc/resolv.conf, empty if d names no server,
// domain or option.
func (d DNS) ResolvConf() []byte {
	var b strings.Builder
	if len(d.Search) > 0 {
		b.WriteString("search " + strings.Join(d.Search, " ") + "\n")
	}
	for _, s := range d.Servers {
		b.WriteString("nameserver " + s.String() + "\n")
	}
	if len(d.Options) > 0 {
		b.WriteString("options " + strings.Join(d.Options, " ") + "\n")
	}
	return []byte(b.String())
}

// HostsFile is the contents of /etc/hosts of a machine called hostname with the
// addresses addrs.
func (d DNS) HostsFile(hostname string, addrs []netip.Prefix) []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	line := func(a netip.Addr, names ...string) {
		b.WriteString(a.String() + "\t" + strings.Join(names, " ") + "\n")
	}
	if hostname != "" {
		for _, p := range addrs {
			line(p.Addr(), hostname)
		}
	}
	for _, h := range d.Hosts {
		line(h.Addr, h.Names...)
	}
	return []byte(b.String())
}
