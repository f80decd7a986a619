// SPDX-License-Identifier: Apache-2.0

// Package isolationtest tests what is built on package isolation: how well work is
// protected from its neighbours, and whether a driver keeps its contract.
//
// # Neighbours
//
// [Run] makes an experiment: a service, the victim, is measured alone and beside noisy
// neighbours in turns, until it can be told whether it notices them. Whoever cares about
// that, for a set of limits, a policy, a kernel or a machine, writes it as a test:
//
//	func TestNeighbour(t *testing.T) {
//		isolationtest.Run(t, isolationtest.Experiment{
//			Victim:      isolationtest.Command(parse, "/srv/bench"),
//			Antagonists: []isolation.Spec{isolationtest.MemoryHog(1 << 30), isolationtest.CPUHog(4)},
//			Expect:      []isolationtest.Expectation{isolationtest.P99Within(1.2)},
//		})
//	}
//
// Victim and antagonists are specs of sandboxes, so what protects one from the others is
// changed where it always is: in class, limits, CPUs and driver. The programs of this
// package, [Pulse], [CPUHog] and so on, are the test binary itself, which is what
// [Workload] in TestMain is for. Nothing here limits what an antagonist takes: one that
// takes all memory of a machine without limits does so.
//
// # Drivers
//
// [Driver] is the conformance suite of drivers: it holds an [isolation.Driver] to
// its contract, through a host as an agent uses it. Whoever writes a driver calls
// it from a test:
//
//	func TestMain(m *testing.M) {
//		if code, ok := isolationtest.Workload(); ok {
//			os.Exit(code)
//		}
//		os.Exit(m.Run())
//	}
//
//	func TestDriver(t *testing.T) {
//		isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver {
//			return mydriver.New(at.Dir, at.Parent)
//		}, isolationtest.DriverOptions{})
//	}
//
// Each part of the suite is a subtest. A part about an optional interface that the
// driver does not implement is skipped, with the interface's name; what the suite
// needs of the machine and does not find is a skip as well, and so is a network or a log
// that the driver refuses as not supported. No part is passed without having been run.
//
// Beside what calls return, the suite asks the kernel: for processes that carry a
// mark in their arguments, for the control files of their groups, and, when a part
// is over, for processes, cgroups, mounts, descriptors, goroutines, threads in
// other namespaces and files that are left. It runs as root, alone on its cgroups,
// and ends and removes only what it made.
package isolationtest
