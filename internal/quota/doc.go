// SPDX-License-Identifier: Apache-2.0

// Package quota bounds what is in a directory by the project quota of its file system,
// of ext4 or xfs for instance: every file counts for one project, and what is made in a
// directory of a project counts for that one too.
//
// Projects are numbers, which nobody gives out. Ours are random, from a quarter of the
// numbers that no tool uses by itself, and looked up before they are taken: one that has
// a file or a limit is somebody's. The directory itself says which is its, so there is
// nothing to remember; an agent that dies in between leaves a limit of a number that
// nobody has, which is not taken again.
package quota
