// SPDX-License-Identifier: Apache-2.0

// Package oci is a driver that runs sandboxes by libcontainer, the library that
// runc is made of, for those who want exactly its behaviour. It is a module of its
// own and needs cgo; a program that does not import it has neither.
//
//	func main() {
//		oci.Init() // first of all
//		driver, err := oci.Open(oci.Config{Root: "/run/agent/oci"})
//		host, err := isolation.Open(ctx, isolation.Config{
//			Root: "/run/agent", Parent: "agent",
//			Drivers: map[string]isolation.Driver{"oci": driver},
//		})
//		box, err := host.Create(ctx, isolation.Spec{ID: "web-1", Driver: "oci", ...})
//
// # Who does what
//
// libcontainer makes namespaces, the root file system, the identity of processes,
// the filter of system calls and the device rules. Limits, measuring, pressure,
// freezing and killing are package cgroups', in the same group: there an update is
// planned and undone whole, writes end with their context, reading does not
// allocate, pressure is there in every mode, and a group is killed at once. The end
// of a process is noticed through its pidfd by one goroutine for all sandboxes.
//
// # What a sandbox has to have
//
// A [isolation.Root] that is a directory, with a place for each mount if its users are
// not the machine's. What libcontainer does not do is an error of Create that names the
// field, not an omission: layers and mapped ids of a root, a reaper, pinning to CPUs,
// and a terminal, since libcontainer makes one in the container and cannot be given the
// caller's. What would be there by default and is not, such as a filter of system calls
// without the build tag "seccomp", is in Status.Missing. Device rules cannot be
// updated. The network and the log of a sandbox are the host's, as for the native driver.
//
// # What comes with libcontainer
//
// Its project does not recommend the use of its packages by others, and changes
// them with each minor version. With it come:
//
//   - The embedder's binary is executed again, from a sealed copy or, where there is
//     no overlayfs, from one in memory, at each start and each Exec; see [Init]. The
//     memory counts against the sandbox's limit until the program is executed: one of
//     a few MiB is too little.
//   - The main goroutine of a program that imports this package is tied to the main
//     thread, with a little more time for each of its turns.
//   - logrus's standard logger, which it warns through. Whoever wants that elsewhere
//     sets the logger's output; this package leaves it alone.
//   - At each start, every descriptor of the process above 2 is marked close-on-exec.
//   - The hierarchies are those below /sys/fs/cgroup, and on v2 all controllers are
//     enabled in the groups above the sandbox's.
//   - One descriptor of the cgroup mount stays open. Descriptors of a process whose
//     host was closed before it ended are closed by the garbage collector.
//   - What is under way when a context ends is cut off by killing the group; a start
//     in a frozen or throttled group is what can take long.
package oci
