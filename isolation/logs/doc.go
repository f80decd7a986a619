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
// # Waiting
//
// With [Config.Block] the workload writes to named pipes instead, from which a Log
// moves what comes to the two files by splice(2), as far as [Config.Backlog] allows:
// what the call takes from a pipe is in the file, whenever the process dies, so here
// too each line is there once. The workload waits while there is no room, and while
// no Log is open; so nothing grows then. The price is that what is in a pipe, 64 KiB
// mostly, is gone if the workload ends while no Log is open and no other process has
// the pipe. For a sandbox of a host with a supervisor, that one has it.
//
// # Limits
//
// Without Block, a workload that opens its standard output again and cuts it off, as a
// shell does for "> /dev/stderr", throws away what it has written and no Log has taken
// over yet: of a script that writes a thousand lines so, a few dozen are kept. Who
// appends loses nothing (">> /dev/stderr", most servers), and with Block nobody does: a
// pipe cannot be cut off.
//
// Without Block, nothing bounds what a workload writes while no Log is open: the
// kernel bounds a file by its writer's RLIMIT_FSIZE only, which ends the workload or
// fails its writes for good, since the file's end goes on growing above the holes.
// Who needs a bound has a file system of a fixed size, or a project quota, for the
// directory; there the workload's writes fail while it is full. The pages that it
// dirties are charged to its own memory limit: on a tmpfs they stay there until
// they are taken over, so the directory better be on a disk.
package logs
