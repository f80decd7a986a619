// SPDX-License-Identifier: Apache-2.0

// Package cgroups limits, measures, freezes, kills and watches one group of
// processes, with one vocabulary (cgroup v2's) on every layout of cgroups that
// Linux has.
//
// # Model
//
// A [Root] says where a machine's hierarchies are and which [Mode] that makes.
// A [Cgroup] is one path in all of them: on cgroup v2 a single directory, on
// v1 one directory per hierarchy, in hybrid mode both. It holds directory
// descriptors, so it is a group and not a name: once removed, it stays gone,
// whoever makes the same path again.
//
// The unified (cgroup2) tree is used in every mode, also where it has no
// controllers: pressure, cgroup.kill, cgroup.freeze and cgroup.events live
// there. A pure v1 machine gets it from a detached mount that has no path and
// ends with the Root.
//
// # Life of a group
//
// [Root.Create] makes a group in every tree that its controllers need, or in
// none. A process is born in it through [Cgroup.Join] or moved into it by
// [Cgroup.Add]. [Cgroup.Freeze] stops all processes, [Cgroup.Kill] ends them,
// and [Cgroup.Remove] removes the group: three verbs that are never mixed.
// [Cgroup.Close] frees this process's descriptors and leaves the group alone.
// Who lost all else finds a group again with [Root.Open], knows it by
// [Cgroup.Labels] and takes it back with [Cgroup.Own].
//
// # Knobs
//
// [Resources] are plain data. Each knob has four states: unset (leave it as it
// is), a value, unlimited where the kernel says "max", and clear (back to the
// kernel's default). A knob that the mode or the kernel lacks is an error that
// matches [ErrNotSupported] and says why; nothing similar is written in its
// place.
//
// What the groups above a group and the machine leave of its limits, the kernel
// does not say; [Cgroup.Explain] does.
//
// # Updates
//
// [Cgroup.Update] gives one group what it is to have, [Root.UpdateAll] several
// groups at once, such as a parent with its children: all of it or nothing. A
// [Plan] shows the writes before they are done, in their order and with the
// reasons for it. An [UpdateError] tells what holds after a failure.
//
// # Shrinking memory
//
// [Cgroup.Update] never has the kernel kill. A memory.max below what is in use
// is a process, not a write: see [Gradual], the default, and [Guard]. Its end is
// either the limit or a [ShrinkError] with all as before. [Refuse] and [Force]
// are for those who want neither; [Cgroup.UpdateWith] takes them.
//
// Where the kernel reclaims during a write, the write is on a thread of its own
// and ends with the context; [BlockedError] is about those that do not.
//
// # Limits of this package
//
// It never removes a group that it did not create, never waits for processes
// that are not its children, never logs, and keeps no state outside the
// kernel's.
package cgroups
