// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures Caisson against its peers, side by side in one run.
//
// The contestants of the first table, each a process of its own, take turns in
// a new random order each round, so that what else the machine does hits all of
// them alike: Caisson, a C program that makes the same system calls with nothing
// around them (the floor), crun, runc and libcontainer. Each makes a sandbox
// with five new namespaces (pid, mount, ipc, uts, net) and limits on cpu, memory
// and pids, runs /bin/true in it, waits and removes it. Two more tables race in the
// same way: whole containers, and further processes in one. The other tables are
// about measuring a sandbox, changing its limits, a thousand sandboxes in one
// agent and what it costs to attend to them, how soon it hears of something, and
// what many sandboxes leave behind.
// -only names one table, and -rows those contestants that are of interest.
//
// It needs root, gcc for the floors and for libcontainer, and libseccomp where
// that filters system calls; a contestant that cannot take part says why in its
// row. What is compared is medians; what the project asks of itself is in the last
// column.
package main
