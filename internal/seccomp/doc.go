// SPDX-License-Identifier: Apache-2.0

// Package seccomp builds the system call filter of a sandbox: a classic BPF
// program for seccomp(2), equal in effect to what container runtimes load by
// default.
//
// The program is a binary search over ranges of numbers and a few calls whose
// arguments count. It is written here instead of with a library, since the ones
// without cgo compare call by call, and bring a parser of configuration files
// along; the tests run it in golang.org/x/net/bpf's machine.
package seccomp
