// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Numbers that package syscall lacks; they are the same on all architectures.
const (
	sysFsopen   = 430
	sysFsconfig = 431
	sysFsmount  = 432

	fsconfigCreate = 6 // FSCONFIG_CMD_CREATE
)

// unified mounts the unified tree of a machine that has it nowhere, without a path:
// the library uses it there, too. The descriptor is the caller's.
func unified() (int, error) {
	kind := [...]byte{'c', 'g', 'r', 'o', 'u', 'p', '2', 0}
	fs, _, errno := syscall.Syscall(sysFsopen, uintptr(unsafe.Pointer(&kind[0])), 0, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("fsopen", errno)
	}
	defer syscall.Close(int(fs))
	if _, _, errno := syscall.Syscall6(sysFsconfig, fs, fsconfigCreate, 0, 0, 0, 0); errno != 0 {
		return -1, os.NewSyscallError("fsconfig", errno)
	}
	mount, _, errno := syscall.Syscall(sysFsmount, fs, 0, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("fsmount", errno)
	}
	return int(mount), nil
}

func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
