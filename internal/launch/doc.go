// SPDX-License-Identifier: Apache-2.0

// Package launch starts a process in new namespaces and cgroups, without a
// helper binary, without re-executing the caller and without cgo.
//
// # The clone program
//
// What must happen between clone and exec, joining cgroups, mounts, hostname,
// ids, capabilities, descriptors, exec itself, is compiled beforehand into a
// flat list of system calls ([Compile]). [Program.Start] copies the list into
// an arena, clones, and the child runs it in a loop of some forty instructions
// of assembly that does nothing but load arguments, trap, and compare the
// result. It writes into the arena which step it is in and which errno ended
// it; from that comes an error that names the step ([StepError]). The list
// prints itself ([Program.String]).
//
// A step may hand its result to later steps (a socket to an ioctl), may be
// allowed to fail, may wait for a word in the arena. There is nothing more to
// the language: it cannot branch, so that what is printed is what is done.
//
// # The child shares our memory
//
// The child is made by clone3 with CLONE_VM and CLONE_VFORK, for which the cost
// does not depend on the size of the caller's heap: page tables are not copied,
// with or without a new user namespace (the standard library copies them for
// CLONE_NEWUSER, 200 ms for 4 GiB), and strict overcommit accounting is not
// asked for a second copy. In return the child must be harmless to the memory:
//
//   - It has a stack of its own, which nothing pushes on, and never uses g, the
//     TLS or Go code. What it reads and writes is the arena, which holds no Go
//     pointers and is pinned; where the goroutine's stack is, and whether it
//     moves meanwhile, does not concern it.
//   - No Go signal handler can run in it: CLONE_CLEAR_SIGHAND resets them, and
//     every signal but SIGKILL and SIGSTOP is blocked from before the clone to
//     the step before exec. The runtime's own fork hooks, which exist to do the
//     same by other means, are therefore not needed, and neither is
//     syscall.ForkLock: the child closes by close_range whatever descriptors it
//     was not given, close-on-exec or not.
//   - It shares neither working directory, umask, signal handlers nor ids with
//     us, only memory and, while it joins its cgroups, the descriptors: it opens
//     and closes none of them before it has its own. So the cost of a launch
//     depends on the numbers of the descriptors it is given, and not on how many
//     the caller has.
//
// The calling thread sleeps in clone3 until the child has left the memory, by
// exec or by exit. The runtime is told so before (by a linkname to its
// entersyscallblock, as in gVisor), so that its P runs other goroutines and no
// garbage collection waits for a child that is busy mounting. A futex on
// CLONE_CHILD_CLEARTID instead of CLONE_VFORK would do the same without the
// linkname, but not without killing the caller:
//
// The OOM killer kills every process that shares the victim's memory, and a
// child in a cgroup whose memory.max is too small for its mounts would be that
// victim. It passes over a child in CLONE_VFORK, and over that only (oom_badness
// and in_vfork, Linux 4.9): the call that ran out of memory fails instead,
// usually with ENOMEM, and the launch with it. From exec on the child has its
// own memory and dies alone. One hole is left: memory.oom.group. With it set on
// a cgroup or an ancestor, an OOM kill of another process in there reaches the
// child whatever state it is in, and the caller with it. So memory.oom.group is
// to be set after Start, and a child must not be started into a group that has
// it set and other processes in it.
//
// Until exec the child also shares these with us:
//
//   - Core dumps. Before Linux 5.16 a dump kills all who share the memory. The
//     signals that dump are blocked until the step before exec; one that is
//     pending then ends the launch. A seccomp filter at [Last] must refuse
//     execve, if it must, with an errno, and must allow exit_group: to kill is
//     to dump.
//   - The dumpable attribute. The kernel clears it for all who share the memory
//     when the child changes its uid, lest a process of that uid traces the
//     child and reads our memory. Start puts it back once no such child is under
//     way. Meanwhile the calling process cannot be traced by others of its uid
//     and, without CAP_DAC_OVERRIDE, has no /proc/self/fd. Only callers with
//     CAP_SETUID change uids.
//   - NUMA policy. A v1 cpuset with cpuset.memory_migrate set moves the memory
//     of whoever joins it, which until exec is ours: set it after Start.
//   - Sockets. A v1 net_cls or net_prio group marks the sockets of whoever joins
//     it, and the child holds all of ours until close_range: set it after Start.
//   - Peak memory. The kernel starts the child's ru_maxrss at ours; [Status]
//     therefore does not have it.
//
// The child's /proc/PID/exe is the caller's binary until exec. Nobody can be in
// a new pid namespace to look at it, but execve itself looks up what an image
// says, and in an existing namespace others are about. Against the first there is
// the stub, a program of three hundred bytes in a sealed memfd that the child
// executes first and that executes the program; a pipe tells whether it could.
// Against the second the caller's memory is undumpable while such a child is
// under way, so only who has CAP_SYS_PTRACE over the caller can look.
//
// A pid namespace cannot be entered for oneself. The thread that clones sets the
// one that its children are born in, and sets it back.
//
// # Steps in detail
//
// Cgroups: on v2 the child is born in its cgroup. On v1 it writes "0" to the
// tasks files it was given, which moves the writing thread alone and needs no
// lock against forks (threadgroup_rwsem), a thousand times cheaper than writing
// its pid to cgroup.procs. A limit that stalls or freezes the group does so to
// the child before exec as well: the launch then takes as long, until its
// context ends.
//
// The cgroup namespace is made after that, by unshare: with clone3 its root
// would be the caller's cgroup.
//
// User namespaces: the caller's process writes the maps, from another thread,
// while the child goes on until it needs them. Then the child becomes uid 0 of
// the namespace, so that what it mounts belongs there. If the caller is killed, the
// child waits for ever; so it has closed all that it does not need before, lest it
// holds the caller's locks and pipes. Whoever comes next has to end it.
//
// A root file system is assembled from descriptors. What is bound, and the
// directories of an overlay, are opened first: in a new user namespace as the
// caller, whose own directories the ids of the namespace often may not search.
// They are attached on top of "/", which the child goes on seeing from below,
// until pivot_root; so no directory outside is needed or seen. What is inside is
// resolved by openat2 in the root, a directory once for all that is made in it.
// The initial root of a machine that has no other (an initramfs) cannot be pivoted,
// so the child first changes into a copy of it.
//
// Time namespaces are entered at exec, by Linux 6.2 and later (kernel commit
// 2b5f9dad32ed). Older kernels enter one only by a clone that does not share
// memory, and with clock offsets only by a second one; there NewTime is
// [ErrNotSupported].
//
// PR_SET_PDEATHSIG is not offered: it fires when the thread that cloned ends,
// and in Go nobody knows which that is. Neither is a search through PATH, which
// the child could only do in its own view of the files.
//
// # Processes and signals of the caller
//
// A failed child is always reaped here. Until exec its exit signal is 0, so
// that the caller's handlers of SIGCHLD and its wait4(-1) do not see it; from
// exec on it is an ordinary child. Signals that the caller ignores are reset to
// their default, and no signal is blocked. One that arrives in the child before
// exec is kept and acts in the step before exec.
//
// What else a child inherits is the process's, and the Go runtime has changed
// one thing in it: at start it raises the soft RLIMIT_NOFILE to the hard one
// (go.dev/issue/46279). A child gets the old value back, as those of the standard
// library do, unless Rlimits has another one or the process has set one itself.
package launch
