// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // its constructor enters the namespaces of a container's init
)

// libcontainer takes threads into mount namespaces for good and lets them die. The main
// thread cannot die, and what it sees is what /proc/self shows of the whole process: it
// must not be one of them. So it runs the main goroutine and nothing else, which only
// an init function can bring about: by the time that main runs, its goroutine can be on
// another thread.
func init() { runtime.LockOSThread() }

// Init has to be the first thing that main does. In a process that libcontainer started
// as the init of a container, it becomes that and does not return. In any other it does
// nothing.
//
// libcontainer executes the embedder's binary again for each container and each
// process of Exec, as root and in the container's namespaces. So what the
// package-level variables and init functions of all packages of the program do
// happens there too, before main, and takes its time at each start.
func Init() {
	// By the name alone a command "init" of the embedder's would be taken for it.
	if len(os.Args) > 1 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		libcontainer.Init()
	}
}
