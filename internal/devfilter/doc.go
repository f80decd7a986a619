// SPDX-License-Identifier: Apache-2.0

// Package devfilter says which device nodes the processes of a cgroup v2 group
// may use: a BPF program of type cgroup_device, attached to the group.
//
// A program's name carries a hash of its rules, so that a later look tells
// whether a group has these rules already. A program is replaced in one step
// where the kernel can (BPF_F_REPLACE, Linux 5.6), so that there is no moment
// without rules, and never stacked.
package devfilter
