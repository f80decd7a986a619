// SPDX-License-Identifier: Apache-2.0

// Package logs keeps what workloads write to their standard output and error.
//
// # Model
//
// A workload writes into two files, "stdout" and "stderr", by descriptors of its
// own. So nothing that it has written is lost, whoever dies and in whichever
// order, and no reader can make it wait. A [Log] takes whole lines from there to
// numbered files, in the format of the CRI or as they are, and gives the space
// back by punching holes behind itself. How far it got is in the file "state",
// written after the lines: a Log that is opened after a crash cuts off what the
// state does not tell of and goes on where it says, so no line is lost and none is
// there twice.
//
// The numbered files are rotated by size and age, bounded in total, and compressed
// if one likes. Lines above a rate are dropped and counted, and so is what a flood
// writes faster than a Log can read: see [Config.Backlog].
//
// # Limits
//
// While no Log is open, nothing bounds what a workload writes. The pages that it
// dirties are charged to its own memory limit: on a tmpfs they stay there until
// they are taken over, so the directory better be on a disk.
package logs
