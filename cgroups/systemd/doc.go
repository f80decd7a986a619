// SPDX-License-Identifier: Apache-2.0

// Package systemd gets a place in the cgroup tree from systemd, where systemd
// owns it.
//
// systemd writes the files of its own units, at a daemon-reload among other
// times, so that a limit which somebody else wrote there does not last. What it
// promises is delegation: below a unit with Delegate=yes it writes nothing.
// [Delegate] starts one such unit, and its [Unit.Parent] is what
// isolation.Config.Parent takes. Each file then has one writer:
//
//   - the files of the unit's own group belong to systemd. [Unit.Update] asks it
//     to change them, by properties, and reads back what the kernel has;
//   - every group below belongs to the agent, and systemd leaves it alone.
//
// [Open] takes any other unit, whose limits are changed the same way.
//
// # Limits of this package
//
// systemd is asked over the system bus, so that a bus daemon has to run.
//
// Delegation is for cgroup v2 only. systemd's own document calls that of v1
// controllers unsafe, and a unit has no group in the trees of freezer, cpuset,
// hugetlb and rdma there, so [Delegate] answers [cgroups.ErrNotSupported]. On
// such a host give isolation a Parent at the top of the trees, where systemd
// touches only what it made itself. [Open] and [Unit.Update] work there, for
// what systemd can set on v1.
//
// https://systemd.io/CGROUP_DELEGATION/
package systemd
