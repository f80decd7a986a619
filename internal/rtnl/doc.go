// SPDX-License-Identifier: Apache-2.0

// Package rtnl does over netlink what is done often or has to be fast: it asks for
// the counters of queues without allocating, and changes all of a link with one
// message. The netlink library does neither.
package rtnl
