// SPDX-License-Identifier: Apache-2.0

// Package nft publishes ports of the machine to sandboxes, hides their addresses
// from the outside, and keeps them apart, by nftables.
//
// # Model
//
// A [Firewall] is one table of the family inet, "caisson-SCOPE", with everything
// that it needs; no other table is read or changed. Its rules are the same
// always: they look addresses and ports up in sets and maps, and a sandbox is some
// elements of these, each with the owner's name as its comment. So a change is one
// transaction of the kernel, whatever the number of sandboxes, and what a crash
// left can be told from what lives.
//
// # Published ports
//
// A connection to a published port of one of the machine's addresses goes to the
// sandbox, from other machines, from sandboxes and from the machine itself; UDP
// as TCP, IPv6 as IPv4. Not from the machine to its loopback addresses: the kernel
// does not route 127.0.0.0/8 to other links unless a setting of the link allows
// it, and ::1 never.
//
// # Priorities
//
// The kernel takes the priority of an IPv4 packet that it forwards from its TOS, which
// the sandbox chooses. The table sets that of [netns.Bandwidth] instead, by the source
// address.
//
// # Limits of this package
//
// The machine has to forward (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding),
// and other tables must not drop what this one lets pass: in nftables every table
// has a veto. Sandboxes on one bridge are kept apart by the bridge, which
// [github.com/caisson-run/caisson/netns] sees to: their packets do not come by
// here.
package nft
