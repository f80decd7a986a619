// SPDX-License-Identifier: Apache-2.0

// Package runtimespec converts between [cgroups.Resources] and LinuxResources of
// the OCI runtime specification, in both directions.
//
// # What is kept
//
// Presence: what the one does not name, the other does not either. Unlimited is
// -1 there where the field has a sign. A 0 of a field in which every runtime
// takes 0 for "not set" (shares, quota, period, weights, the amounts of memory) is not
// converted, and said to be so.
//
// Meaning: shares are weights by the runtimes' current formula, swap is swap
// alone here and memory plus swap there, and a weight of blkio is one of the bfq
// scheduler, which is where both end. A quota without a period is one of the
// kernel's default, 100 ms. A limit of huge pages is one of pages reserved and
// of pages in use. memory.reservation is memory.low, as for every runtime on
// cgroup v2. Rules for devices become the list of what they allow; rules that
// are no such list are refused.
//
// What Resources has and the specification has no field for goes into its
// unified map, which runtimes take on cgroup v2 only.
//
// # What is refused
//
// Nothing is dropped in silence: each [Leftover] is a field that has no
// equivalent, with the reason. Numbers that are negative, too large, or at odds
// with each other are an error.
//
// The unified map comes from outside as often as not, and must not become a way
// to write any file. Its entries are parsed into the knobs that Resources has. An
// entry for another knob is a Leftover; one that cannot be a knob's file, such as
// a path or cgroup.procs, is an error.
package runtimespec
