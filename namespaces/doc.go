// SPDX-License-Identifier: Apache-2.0

// Package namespaces names, holds and enters Linux namespaces, and describes
// the id maps of user namespaces.
//
// # Model
//
// A [Kind] is what a namespace isolates. An [ID] tells whether two namespaces
// are the same one. A [Handle] holds a namespace, which lives on as long as
// somebody does; a name such as /proc/4711/ns/net means another namespace as
// soon as the process ends and its pid is used again.
//
// # Threads
//
// A namespace belongs to a thread, and a Go program does not choose its
// threads. [Do] is the one way in: it runs a function on a thread of its own,
// brings that thread back, and lets it end if that fails, so no other goroutine
// ever runs in a foreign namespace. The first thread of the process, which the
// runtime cannot end, is never used.
//
//   - net, ipc, uts, cgroup: the function is inside.
//   - pid: the children that the function starts are inside, it itself is not.
//   - mnt: the function is inside, on a thread that got a root and working
//     directory of its own and always ends afterwards. Every path it uses is the
//     sandbox's to choose, os/exec's /dev/null and symbolic links included.
//   - user, time: the kernel refuses both to a process with more than one
//     thread, which a Go program always is. Work that needs them is done by a
//     new process.
//
// # Limits of this package
//
// [Create] makes only those namespaces that need no process to begin with, and
// [Handle.Pin] is all that it mounts; sandboxes are born in their other
// namespaces. It needs /proc of the caller's own pid namespace.
//
// # Ids
//
// An ordinary user may map one id, his own ([OwnIDMaps]). Further ones are the
// administrator's to give, in /etc/subuid and /etc/subgid ([SubIDs], [MapSubIDs]),
// and mapped by two programs that are set-user-id root, which [WriteIDMaps] calls
// where the kernel refuses.
package namespaces
