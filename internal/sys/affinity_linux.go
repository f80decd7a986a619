// SPDX-License-Identifier: Apache-2.0

package sys

import (
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

// SetAffinity says which CPUs the task tid may run on (sched_setaffinity(2)).
func SetAffinity(tid int, m *CPUMask) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(*m), uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return os.NewSyscallError("sched_setaffinity", errno)
	}
	return nil
}
