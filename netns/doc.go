// SPDX-License-Identifier: Apache-2.0

// Package netns looks at and changes the network of a sandbox from outside.
//
// # Model
//
// A [Handle] is one netlink socket and one counters file in one network
// namespace. Both are made inside once, and used from any goroutine and any
// thread afterwards: no later call enters the namespace. The namespace exists at
// least as long as the handle is open.
//
// # What can block
//
// The kernel answers netlink under one lock for the whole machine, and lets
// nobody interrupt the wait for it, which can take seconds while other
// namespaces are torn down. A call whose context ends returns at once; its
// request is left to finish by itself, and the next call on the same handle
// waits for that first. After a change that returned the context's error, look
// whether it took place. [Handle.Stats] takes no such lock.
//
// A list that changed while the kernel was writing it is read again, some
// times; part of a list is never returned.
//
// # Limits of this package
//
// It lists links, addresses and counters, and sets links up and down. It makes
// no devices. In the new network namespace of a sandbox the loopback device is
// set up at launch.
package netns
