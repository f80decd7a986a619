// SPDX-License-Identifier: Apache-2.0

// Package metrics converts [cgroups.Stats] to containerd's metrics, the form in
// which most collectors expect the figures of a container.
//
// The conversion is to the types of cgroup v2 in every mode, for the figures of
// [cgroups.Stats] are in v2's words on v1 too. What these types cannot say is
// lost: that a figure is absent (it becomes 0), and the figures of the misc
// controller. A limit that is lifted becomes 2^64-1, as containerd has it.
package metrics
