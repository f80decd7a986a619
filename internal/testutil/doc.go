// SPDX-License-Identifier: Apache-2.0

// Package testutil is what the tests of every package share: typed skips, names
// for test cgroups, leak checks, and workloads made of the test binary itself.
// Only _test.go files import it.
//
// # Skips
//
// A test states what it needs and is skipped with a reason that has a class:
//
//	testutil.Require(t, testutil.Root, testutil.Cgroup2("memory"), testutil.PSI)
//
// prints "skip(cgroup2.memory): ..." where that is missing. The kernel matrix
// in test/vm tells the tests in CAISSON_VM_HAS which classes its kernel offers,
// and a skip for one of these is a failure: a probe that wrongly says no cannot
// hide a test. What only the code under test can find out (a file such as
// cgroup.kill) goes through [Skip] under the kernel's name for it.
//
// # Environment
//
//	CAISSON_VM         set inside the kernel matrix, where everything is emulated
//	CAISSON_VM_HAS     comma separated classes that must be there
//	CAISSON_DELEGATED  a cgroup2 directory that the ordinary user may manage
//	CAISSON_BLOCKDEV   a scratch block device that tests may overwrite
//	CAISSON_SOAK       how often tests of endurance repeat what they do
package testutil
