// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net/netip"
	"strings"
	"unicode"

	"github.com/caisson-run/caisson/namespaces"
)

// Loopback is the name of the device that every network namespace has from the
// start, set down.
const Loopback = "lo"

// Link is a network device as it was when it was asked for.
type Link struct {
	Name    string         `json:"name"`
	Index   int            `json:"index"`          // stays when the link is renamed
	Kind    string         `json:"kind,omitempty"` // "veth", "bridge", ...; empty for hardware and loopback
	Alias   string         `json:"alias,omitempty"`
	MTU     int            `json:"mtu"`           // bytes
	MAC     string         `json:"mac,omitempty"` // as net.ParseMAC takes it; empty if the link has none, or only zeros
	Up      bool           `json:"up"`            // set up by the administrator (IFF_UP)
	Running bool           `json:"running"`       // up, and with a carrier (IFF_RUNNING)
	Addrs   []netip.Prefix `json:"addrs,omitempty"`
	Stats   LinkStats      `json:"stats"`
}

// maxName is IFNAMSIZ without its NUL.
const maxName = 15

// checkName applies the kernel's rules (dev_valid_name of net/core/dev.c).
func checkName(name string) error {
	refuse := func(reason string) error {
		return &namespaces.InvalidError{Field: "link name", Value: name, Reason: reason}
	}
	switch {
	case name == "" || len(name) > maxName:
		return refuse("not 1 to 15 bytes")
	case name == "." || name == "..":
		return refuse("a directory")
	case strings.IndexFunc(name, func(r rune) bool { return r == '/' || r == ':' || r == 0 || unicode.IsSpace(r) }) >= 0:
		return refuse("has a slash, colon, space or NUL")
	}
	return nil
}
