// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// raw does one bpf(2). attr is as long as the kernel's largest: from 6.17 to
// 7.1 BPF_PROG_QUERY writes past a shorter one.
func raw(cmd int, attr *[256]byte, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(attr)), size)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR, unix.EAGAIN: // the verifier was interrupted by a signal
			continue
		}
		return -1, errno
	}
}

// Call copies what attr points to into a long attribute, does the call and
// copies it back.
func Call[T any](cmd int, what string, attr *T) (int, error) {
	long := new([256]byte)
	size := unsafe.Sizeof(*attr)
	short := unsafe.Slice((*byte)(unsafe.Pointer(attr)), size)
	copy(long[:], short)
	r, err := raw(cmd, long, size)
	copy(short, long[:])
	if err != nil {
		return -1, fmt.Errorf("bpf(%s): %w", what, err)
	}
	return r, nil
}

// Load gives a program to the kernel, under a name of 15 bytes at most.
func Load(t Type, name string, insns []byte) (*sys.FD, error) {
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&insns[0])
	pin.Pin(&license[0])
	kind, attach := uint32(unix.BPF_PROG_TYPE_SCHED_CLS), uint32(0)
	if t == CgroupDevice {
		kind, attach = unix.BPF_PROG_TYPE_CGROUP_DEVICE, unix.BPF_CGROUP_DEVICE
	}
	attr := struct {
		progType, insnCount   uint32
		insns, license        uint64
		logLevel, logSize     uint32
		logBuf                uint64
		kernVersion, flags    uint32
		name                  [16]byte
		ifindex, expectAttach uint32
	}{
		progType: kind, insnCount: uint32(len(insns) / InsnSize),
		insns: address(&insns[0]), license: address(&license[0]), expectAttach: attach,
	}
	copy(attr.name[:15], name)
	fd, err := Call(unix.BPF_PROG_LOAD, "PROG_LOAD", &attr)
	if err != nil {
		return nil, err
	}
	return sys.NewFD(fd), nil
}

func address(b *byte) uint64 { return uint64(uintptr(unsafe.Pointer(b))) }
