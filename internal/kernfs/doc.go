// SPDX-License-Identifier: Apache-2.0

// Package kernfs reads and writes the files of kernel file systems (cgroupfs,
// proc, sysfs) relative to held directory descriptors.
//
// A [Dir] is the identity of a directory, not its name: after an rmdir and a
// mkdir of the same path, the old Dir answers "gone", never with the new
// directory's content. Every name given to a Dir is one path element or a
// relative path without dots, and is resolved beneath it without following
// links, so no name from outside can lead elsewhere.
//
// Kernel files are produced anew at each read and consume each write as a
// whole. So a read is one pread(2) from offset 0 into the caller's buffer, a
// write is one write(2); both are repeated on EINTR, which Go's own preemption
// signals cause (limit_in_bytes answers with it), and a short write is an error.
package kernfs
