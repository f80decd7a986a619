// SPDX-License-Identifier: Apache-2.0

// Package supervise is the supervisor of a state directory's sandboxes, and an
// agent's way to it. Who wants one calls isolation/supervisor in a program of
// his own; isolation is the agent.
//
// # What it is for
//
// The kernel tells how a process ended to its parent alone (before Linux 6.15),
// and closes a pipe with the last process that has it. An agent is the wrong
// parent and the wrong process for both: it is restarted. The supervisor does
// nothing else, so it need not be.
//
// # The protocol
//
// A seqpacket socket in a directory that only its owner can enter. Each request
// is one message and has one reply; what does not fit into a message goes into a
// sealed memfd beside it, descriptors by SCM_RIGHTS. A connection has one request
// under way. To close it is to take the request back: a launch that nobody takes
// delivery of is undone, so it does not matter when an agent dies or gives up,
// nor whether the supervisor was stopped meanwhile.
//
// The agent makes the socket and hands it to the supervisor that it starts, so it
// can connect at once. The version of the protocol is part of the socket's name:
// two versions have a supervisor each. The older one goes on until its children
// have ended.
//
// # What is on disk
//
// One file for each process that has ended and whose status nobody has
// acknowledged, in the same directory. Any agent reads it, with a supervisor or
// without. Of the further processes of a sandbox, which nobody acknowledges, the last
// ones stay until the sandbox is forgotten.
package supervise
