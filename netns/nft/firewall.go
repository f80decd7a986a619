// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// Config describes a [Firewall].
type Config struct {
	// Scope is the agent's, as in [netns.Config].
	Scope string

	// Machine is the network namespace of the table; nil is the caller's own. It is
	// only used during the call.
	Machine *namespaces.Handle

	// Masquerade gives what sandboxes send to other machines the address of the
	// link that it leaves by.
	Masquerade bool
}

// The kernel's numbers for what keys are made of.
const (
	protoTCP = 6
	protoUDP = 17
)

// setID is one of the table's sets and maps.
type setID int

const (
	ports4    setID = iota // protocol . port : address . port
	ports6                 //
	at4                    // address . protocol . port : address . port
	at6                    //
	addrs4                 // of sandboxes
	addrs6                 //
	isolated4              // of those that are kept apart
	isolated6              //
	priority4              // of what is sent from an address
	setCount
)

var setNames = [setCount]string{"ports4", "ports6", "at4", "at6", "addrs4", "addrs6", "isolated4", "isolated6", "priority4"}

// element is an entry of a set, or of a map if it has a value.
type element struct {
	set        setID
	key, value string
}

// elements are those of one sandbox, each once, in a fixed order.
func elements(r netns.Rules) []element {
	var list []element
	var to [2]netip.Addr // where ports lead: the first address of each family
	for _, a := range r.Addrs {
		family := familyOf(a)
		list = append(list, element{set: addrs4 + setID(family), key: string(a.AsSlice())})
		if r.Isolated {
			list = append(list, element{set: isolated4 + setID(family), key: string(a.AsSlice())})
		}
		if n, set := r.Priorities[a].Value(); set && a.Is4() {
			list = append(list, element{priority4, string(a.AsSlice()), string(binary.NativeEndian.AppendUint32(nil, n))})
		}
		if !to[family].IsValid() {
			to[family] = a
		}
	}
	for _, p := range r.Ports {
		for family, addr := range to {
			if !addr.IsValid() || p.Address.IsValid() && familyOf(p.Address) != family {
				continue
			}
			e := element{set: ports4 + setID(family), key: service(p.Protocol, p.Host), value: string(addr.AsSlice()) + port(p.Sandbox, p.Host)}
			if p.Address.IsValid() {
				e.set, e.key = at4+setID(family), string(p.Address.AsSlice())+e.key
			}
			list = append(list, e)
		}
	}
	return list
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// service is "protocol . port" as the kernel compares it: every part padded to
// four bytes.
func service(p netns.Protocol, number uint16) string {
	proto := byte(protoTCP)
	if p == netns.UDP {
		proto = protoUDP
	}
	return string([]byte{proto, 0, 0, 0}) + port(number, 0)
}

// port is number, or else the other one, padded.
func port(number, other uint16) string {
	if number == 0 {
		number = other
	}
	return string(append(binary.BigEndian.AppendUint16(nil, number), 0, 0))
}
