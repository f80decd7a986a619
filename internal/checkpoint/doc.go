// SPDX-License-Identifier: Apache-2.0

// Package checkpoint keeps what a process must know again after its own death:
// one small log a sandbox, in a directory that several processes may share.
//
// A log is a file of JSON lines, each with a checksum behind it. The first line is written when the file is
// made, before any kernel object of the sandbox exists; each later change of
// state is one more line, appended by one write(2). So a process that dies
// between two system calls leaves a file that ends in a whole line, or in a
// torn one that readers ignore: the state before it holds. A write that fails
// half way (a full disk) is cut off again before the error is returned. A log that
// has become long is replaced by one line, by rename(2).
//
// Nothing is synced to the device: every kernel object that a log describes is
// gone after a power failure as well, and the boot id in the first line tells
// a reader so.
package checkpoint
