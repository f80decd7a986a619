// SPDX-License-Identifier: Apache-2.0

package launch

import "syscall"

// KillSignal has a stub kill the process that it stands for.
const KillSignal = syscall.Signal(64)

// A stub is a program of some three hundred bytes that a child executes first,
// and that executes the one it is meant to run. Two things need it:
//
//   - Until execve is over, /proc/self/exe is the caller's binary, and what
//     execve looks up is hostile in a root of somebody else's: a script that
//     begins with "#!/proc/self/exe", or a program whose interpreter is that,
//     would run the caller's binary inside and have a handle on it
//     (CVE-2019-5736). With the stub it is the stub, which nobody can write to:
//     it is in a sealed memfd.
//   - The first process of a pid namespace has to reap whatever is left to it,
//     which few programs do. The stub can stay as that process: it passes
//     signals on, and ends as its child ends, with 128 and the signal's number
//     for a signal.
//   - From outside of a pid namespace that it has joined, it does the same for a
//     process inside, which ends with it. There [KillSignal] is passed on as SIGKILL:
//     whoever kills the stub instead leaves it to the machine's init to reap the
//     process, for which the end of the namespace waits.
//
// The machine code is that of stub_linux_*.s, copied out of this program's own
// text. Its arguments are "E", "R" (to reap) or "X" (from outside) with the number of a descriptor,
// the path, and argv. Where it cannot execute the path it writes the errno to the
// descriptor, which is closed if it can.
