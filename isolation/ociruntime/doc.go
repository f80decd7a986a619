// SPDX-License-Identifier: Apache-2.0

// Package ociruntime is a driver of package isolation that has an OCI runtime
// start its sandboxes: runc, crun, or another program with their command line.
//
// # Who does what
//
// The driver makes a sandbox's group, with all of its limits, and its bundle: a
// directory with the configuration, converted by isolation/runtimespec, and where
// the spec has layers an overlay mounted on it. [Driver.Start] has the runtime
// create the container in that group and start it. From then on the kernel is
// asked, not the runtime: the process is held by a pidfd, limits, measuring and
// freezing are the cgroups package's, as for the native driver. Claims, drift and
// elastic policies work as they do there.
//
// The network and the log that a spec asks for are the host's, as for the native driver:
// the container joins the one, by its file in /run/netns, and writes to the other.
//
// [Driver.Destroy] kills the group, has the runtime forget the container, and
// removes what is left. It comes to its end without the runtime too.
//
// # How a process ended
//
// The runtime's first process ends before the container does, so the container is
// nobody's child here. Its exit status is known since Linux 6.15, which keeps it
// for whoever holds a pidfd, and before that to an agent that is a subreaper, see
// [Config.Subreaper]; else it is unknown, and said to be.
//
// # What is refused
//
// What a runtime's configuration has no words for is an [isolation.UnsupportedError]
// of Create, with the field: a sandbox without a root of its own, a reaper,
// pinning to CPUs, mapped ids of a root or a volume, and a terminal: a runtime makes
// one in the container, and the process can be given no other. Landlock by default and
// the choice of controllers are done without, and Check says so.
//
// Whoever can write to the runtime's program or to its state runs as root.
package ociruntime
