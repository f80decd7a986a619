// SPDX-License-Identifier: Apache-2.0

// Package rtnl asks the kernel for the counters of queues, often and without
// allocating, which the netlink library does not do.
package rtnl
