// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// vforkInto is vfork of a child that is born in a pid namespace: the calling
// thread's children are to be born there, for that moment. The caller's goroutine
// ends soon, and with it the thread if that cannot be taken back.
func vforkInto(pidns int, h *header) (errno uintptr, err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return 0, &os.PathError{Op: "open", Path: "/proc/self/ns/pid", Err: err}
	}
	defer unix.Close(home)
	if err := unix.Setns(pidns, unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return 0, os.NewSyscallError("setns", err)
	}
	// Whoever is in there sees the child, and must not reach the memory that it
	// shares with us. The caller has arranged for this to be put back.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // never refused
	errno = vfork(h)
	if unix.Setns(home, unix.CLONE_NEWPID) == nil {
		runtime.UnlockOSThread()
	}
	return errno, nil
}
