// SPDX-License-Identifier: Apache-2.0

// Package cgroupfake is a cgroupfs in memory with the kernel's rules: which
// files a group has, what may be written to them in which state, what the
// kernel makes of it, and which errno says no. Package cgroupstest is its face
// for embedders; it is apart so that the tests of package cgroups can use it.
//
// A [Machine] has the hierarchies of a v1, v2 or hybrid layout, simulated
// processes and what their work uses. One lock guards all of it. Files hold
// text, as the kernel shows it; each kind of file has its rules in the source
// file of its controller, and a table of them is checked against real kernels by
// the tests of cgroupstest.
//
// Time does not pass in a fake: counters of time grow only when told to.
package cgroupfake
