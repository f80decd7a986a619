// SPDX-License-Identifier: Apache-2.0

// Package crash kills agents, and looks at what is left.
//
// An agent is a process of its own with a host of package isolation. Under
// ptrace(2) it is killed in front of each system call that could change
// something, one call further each time, in every operation and in Open itself:
// so every state that an operation passes through is one that it died in, and no
// line of the library knows of it. The calls that a child makes between clone and
// exec count too. Other agents run many operations at once and are killed at
// random. Where the processes are a supervisor's, that one is killed at its own calls
// as well: it is replaced, no process is left of what it was at, and no status is
// invented.
//
// The next agent says what it finds. Package truth, which shares no code with the
// library, says what the kernel has. The two have to agree, and to be what was
// acknowledged: of the operation that died, all or nothing. Limits of networks are
// read from the kernel's queues, further processes are counted, and the workloads
// write numbers into their logs, of which none may be missing or there twice.
//
// make test-crash kills a thousand times; make test some dozens.
package crash
