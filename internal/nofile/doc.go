// SPDX-License-Identifier: Apache-2.0

// Package nofile remembers the RLIMIT_NOFILE that this process was started with.
//
// The syscall package raises the soft limit before main runs and keeps the old one
// to itself, for the children of os/exec. Packages are initialized in the order of
// their import paths as far as their imports allow (the Go specification, "Program
// initialization", since Go 1.21), and "github.com/..." without imports comes before
// "syscall". So this package imports nothing and calls the kernel by itself.
package nofile
