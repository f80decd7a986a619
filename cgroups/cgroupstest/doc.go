// SPDX-License-Identifier: Apache-2.0

// Package cgroupstest tests what uses cgroups without root and without a
// kernel: a cgroupfs in memory under a real [cgroups.Root].
//
//	fake := cgroupstest.New(t, cgroupstest.V2)
//	web, err := fake.Root().Create("web", 0)
//	fake.SetUsage("web", 300<<20)
//	_, err = web.Update(ctx, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20)}})
//
// # What it models
//
// The fake has the kernel's files and the kernel's answers: EINVAL for a quota
// below the burst, EBUSY for a v1 limit below what is in use, an OOM kill for the
// same on v2, EACCES, EBUSY and ENOSPC for nested v1 cpusets, EBUSY for processes
// above controllers, EAGAIN at the tree's limits, ENODEV on the files of a
// removed group, and what the kernel makes of a value in silence: pages, clamped
// shares, the weight of an idle group. What work uses is said by the test, see
// [Fake.SetUsage]; processes are simulated, and their numbers are above what any
// kernel gives. Faults can be injected into any operation: see [Fake.Fail].
//
// The rules are not guesses: one table of operations runs on the fake and on
// real kernels (5.10, 6.1 and 6.12 with v1, hybrid and v2 layouts), and both must
// answer alike.
//
// # What it does not
//
// Time does not pass: counters of time, and pressure, grow when the test says so,
// and averages stay 0. There is one thread to a process. Nobody is throttled,
// scheduled or given memory, so SetUsage above a limit is where reclaim and the
// OOM killer happen. Directories have no descriptors, so processes cannot be
// born in a group of a fake. A fake acts as root without CAP_SYS_RESOURCE does.
package cgroupstest
