// SPDX-License-Identifier: Apache-2.0

// Package isolation runs work in sandboxes on one machine: create, start,
// change any limit while it runs, watch for pressure, destroy, and find
// everything again after a restart.
//
// # Model
//
// A [Host] is one agent's sandboxes on one machine: a state directory and a
// parent cgroup. A [Sandbox] is one of them. Three plain calls, [Host.Create],
// [Host.Destroy] and [Host.Check], serve every kind of container; everything
// else a [Driver] offers on top, and what it does not offer answers
// [ErrNotSupported].
//
// The built-in native driver is made of [Isolator] values, each of which owns
// one part of a sandbox: its cgroup, its namespaces, its process. An embedder
// adds isolators of its own through [Config].
//
// # Files
//
// A sandbox sees the caller's files, in a mount namespace of its own, unless its
// spec has a [Root]: a directory, or an overlay of several, with /proc, /sys and
// /dev, which its first process assembles and changes into at its start.
//
// # What a process gets
//
// What its [Spec] says, and nothing of the agent's by accident: no descriptor but those
// that Start is given; an environment that is the spec's alone, without a PATH or a HOME
// unless they are in it; a session of its own; no signal blocked, and none ignored but
// what C code in the agent ignores; and of the agent's threads always an ordinary one,
// whatever the caller has done to a thread that it is locked to.
//
// Where the spec is silent, these are the agent's (with a [Config.Supervisor] the
// supervisor's, which has them from the agent that started it): the umask, resource
// limits, scheduling, timer slack, the OOM score adjustment if the class has none, and
// whatever else fork(2) and execve(2) hand on. The soft limit of descriptors is the one
// that the agent was started with, not what Go raises it to for itself, unless the agent
// has set one.
//
// Standard descriptors block, and where they are pipes, every user of the sandbox can
// open them again as /dev/stdout or /dev/stderr. With [Process].Terminal, the terminal
// becomes the user's. Other files keep their owner and mode, and descriptors from 3 on
// are as the caller has them.
//
// The native driver differs from runc in this: runc adds a HOME, mounts the files of
// the group below /sys/fs/cgroup, where a [Root] has none, and may hand on a soft limit
// of descriptors that it has raised. With a Reaper, the process does not lead its
// session, and is in the process group of who does.
//
// # Further processes
//
// [Sandbox.Exec] runs a process beside the first one: in the same namespaces, root
// and group, under the same filter; [Sandbox.ExecGroup] in a group of its own, with
// limits. [Terminal] is a pseudoterminal for either.
//
// # What keeps a sandbox in
//
// [Spec.Protections] lists it for a spec and this kernel, with the reason for
// whatever is not there. A sandbox with a [Root] has a system call filter and
// the rest of [Security] by default; what it asks for and the kernel refused at
// its start is in [Status].
//
// What container runtimes have besides and this package does not: labels and
// profiles of AppArmor and SELinux, a memory policy, resctrl, and a choice of ids
// for a user namespace, which is the caller's ([namespaces.MapSubIDs]). Device
// rules of the group are an option of the limits; what keeps devices out by default
// is that there are none but the usual ones.
//
// # Ordinary users
//
// A host need not be root's. An ordinary user's has a state directory of his own and,
// as Config.CgroupMount, a cgroup2 directory that was delegated to him, which the host's
// process has to be in or below: the kernel lets him start processes in its groups from
// nowhere else, a "permission denied" of clone3 at Start. Or he has no group at
// all with Config.Ungrouped. Where a spec leaves it open, his sandboxes have a user
// namespace in which their user is himself; his supplementary groups stay theirs.
// [Host.Lacks] lists what is missing, and Create refuses specs that ask for it.
//
// # Containers of others
//
// [Host.Adopt] takes charge of a container that somebody else started, by one of
// its processes or by its group: everything but its life. [Host.Destroy] only
// lets go of it; [Sandbox.Release] says what becomes of limits that changed.
// What its owner remembers of limits is his: docker inspect goes on showing
// what docker run set, and the next docker update writes over what was changed.
// Check and Watch tell of that as [Drift], and the next Plan or Update compares
// with the kernel's values, whoever wrote them.
//
// # What survives what
//
// Closing a Host frees its descriptors and leaves the sandboxes running. A
// record of intent is on disk before the first kernel object of a sandbox is
// made, so [Open] finds whatever an earlier process left: it adopts what is
// whole, removes what is half-made, and says which and why.
//
// # Other writers
//
// Limits are files that others can write to. Check says which are not what was
// set, and so does a [Drift] event of a sandbox that is watched; [DriftPolicy]
// says what is done about it.
//
// Within one agent, controllers claim knobs for a while and by priority; see
// [Claim]. Update is what holds below all claims.
//
// # Limits of this package
//
// It never logs, never waits for processes that it did not start, and never
// removes what it did not create. How a process ended is known to its parent; so
// what ended while no Host was open, or as an earlier agent's child, has an unknown
// status, unless a supervisor is its parent ([Config.Supervisor]) or the kernel keeps
// it (Linux 6.15).
package isolation
