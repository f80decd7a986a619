// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CPUMask is a set of CPUs, one bit each; 8192 are as many as Linux has been
// built for.
type CPUMask [8192 / 64]uint64

// Set adds a CPU. Numbers beyond the mask are left out.
func (m *CPUMask) Set(cpu int) {
	if cpu >= 0 && cpu < len(m)*64 {
		m[cpu/64] |= 1 << (cpu % 64)
	}
}

// Within reports whether every CPU of m is one of other.
func (m *CPUMask) Within(other *CPUMask) bool {
	for i := range m {
		if m[i]&^other[i] != 0 {
			return false
		}
	}
	return true
}

// Affinity is the CPUs that the task tid may run on (sched_getaffinity(2)).
func Affinity(tid int) (m CPUMask, err error) {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), unsafe.Sizeof(m), uintptr(unsafe.Pointer(&m)))
	if errno != 0 {
		return CPUMask{}, os.NewSyscallError("sched_getaffinity", errno)
	}
	return m, nil
}

// ReleaseBefore reports whether the running kernel calls itself older than
// major.minor. It is for refusing what old kernels do wrong; what a kernel can
// do is asked of the kernel.
func ReleaseBefore(major, minor int) (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, os.NewSyscallError("uname", err)
	}
	var is [2]int
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &is[0], &is[1]); err != nil {
		return false, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return is[0] < major || is[0] == major && is[1] < minor, nil
}
