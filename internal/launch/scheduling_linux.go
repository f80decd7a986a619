// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/sys"
)

// scheduling is done while the child still has its capabilities, and in its
// cpuset.
func (p *Program) scheduling(s *Scheduling) {
	if s == nil {
		return
	}
	if len(s.CPUs) > 0 {
		var mask sys.CPUMask
		for _, cpu := range s.CPUs {
			mask.Set(cpu)
		}
		raw := (*[unsafe.Sizeof(mask)]byte)(unsafe.Pointer(&mask))[:]
		p.add(unix.SYS_SCHED_SETAFFINITY, 0, len(raw), raw)
	}
	if s.Policy != 0 || s.Nice != nil {
		// struct sched_attr of 48 bytes: what follows are deadlines.
		attr := make([]byte, 48)
		binary.NativeEndian.PutUint32(attr[0:], uint32(len(attr)))
		binary.NativeEndian.PutUint32(attr[4:], uint32(s.Policy))
		if s.Nice != nil {
			binary.NativeEndian.PutUint32(attr[16:], uint32(int32(*s.Nice)))
		}
		binary.NativeEndian.PutUint32(attr[20:], uint32(s.Priority))
		p.add(unix.SYS_SCHED_SETATTR, 0, attr, 0)
	}
	if s.IOClass != 0 {
		const process = 1 // IOPRIO_WHO_PROCESS
		p.add(unix.SYS_IOPRIO_SET, process, 0, s.IOClass<<13|s.IOLevel)
	}
	if s.Core {
		const group = 1 // PIDTYPE_TGID
		p.optional(p.add(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, group, 0), true)
	}
}

// keyring gives the child a session keyring of its own. Whether the kernel has
// keyrings is an option of it.
func (p *Program) keyring(s *Spec) {
	if s.Keyring {
		p.optional(p.add(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0), true)
	}
}
