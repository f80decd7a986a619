// SPDX-License-Identifier: Apache-2.0

// Package netns makes the networks of sandboxes, and looks at and changes them
// from outside.
//
// # Model
//
// A [Handle] is a way into one network namespace: netlink sockets and one
// counters file. They are made inside once, and used from any goroutine and any
// thread afterwards: no later call enters the namespace. The namespace exists at
// least as long as the handle is open.
//
// A [Network] is what one agent has on one machine: bridges and parents that the
// administrator made, [Pool] values with addresses, and the networks of sandboxes,
// each under its owner's name. [Network.Create] makes the one that a [Spec]
// describes, whole or not at all, and pins its namespace where ip-netns(8) finds
// it; an [Attachment] changes and measures it while it is in use;
// [Network.Destroy] removes it. The process of the sandbox joins
// [Attachment.Namespace].
//
// # What a crash leaves
//
// What was made can be found by its owner's name alone: the pin, the machine's
// end of a link, whose name is a hash of the owner and whose alias says "caisson
// SCOPE OWNER", the leases of addresses, the rules of the firewall.
// [Network.Open] takes a whole network over; [Network.Sweep] removes those whose
// owners are gone.
//
// # Teardown
//
// Destroy drops the namespace, and the kernel removes the links with it: deleting
// links one after the other takes ten times as long. It waits until the machine's
// ends are gone, so names and addresses are free when it returns; addresses then
// rest for some seconds before others get them.
//
// # Routed veths
//
// A [Veth] without a bridge needs no address on the machine and no proxy: each
// side is told the other's MAC address, every address has a route to its veth,
// and everything from inside is sent to the machine. For traffic between
// sandboxes and beyond, the machine has to forward (net.ipv4.ip_forward,
// net.ipv6.conf.all.forwarding), which is the administrator's to decide, as
// everything that concerns the whole machine.
//
// # Priorities
//
// A [Priority] ranks what sandboxes send in the queue of a link that they share, as far
// as that queue looks at it; a [Limit] bounds what one of them sends, a [Shaper] shares
// a link by rates. It is set where a packet comes to the machine.
//
// # What can block
//
// The kernel answers netlink under one lock for the whole machine, and lets
// nobody interrupt the wait for it, which can take seconds while other
// namespaces are torn down. A call whose context ends returns at once; its
// request is left to finish by itself, and the next call on the same handle
// waits for that first. After a change that returned the context's error, look
// whether it took place. [Network.Create] and [Network.Destroy] do that
// themselves. [Handle.Stats] takes no such lock.
//
// A list that changed while the kernel was writing it is read again, some
// times; part of a list is never returned.
//
// # Limits of this package
//
// It makes no bridges and changes no setting of the machine but one: a bridge
// whose address is its lowest port's, or none's, keeps the one that it has when
// the first sandbox comes, as every later one could otherwise change it, and those
// that knew it would not reach the machine. A namespace that it makes belongs
// to the caller's user namespace. What a sandbox receives over a [Macvlan], [IPVlan]
// or [Physical] interface cannot be limited.
package netns
