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

// call copies what attr points to into a long attribute, does the call and
// copies it back.
func call[T any](cmd int, what string, attr *T) (int, error) {
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

// Program is a loaded program. Close frees the descriptor; what is attached
// stays attached.
type Program struct {
	fd   *sys.FD
	ID   uint32 // of one that was found
	Name string
}

// FD is the program's descriptor, which stays the program's.
func (p *Program) FD() int { return p.fd.Int() }

// Close frees the descriptor. Closing twice is nil.
func (p *Program) Close() error { return p.fd.Close() }

// kind is the kernel's number for the type.
func (t Type) kind() uint32 {
	switch t {
	case CgroupDevice:
		return unix.BPF_PROG_TYPE_CGROUP_DEVICE
	case CgroupEgress:
		return unix.BPF_PROG_TYPE_CGROUP_SKB
	case Filter:
	}
	return unix.BPF_PROG_TYPE_SCHED_CLS
}

// attachment is what programs of the type are attached to a group as.
func (t Type) attachment() uint32 {
	switch t {
	case CgroupDevice:
		return unix.BPF_CGROUP_DEVICE
	case CgroupEgress:
		return unix.BPF_CGROUP_INET_EGRESS
	case Filter:
	}
	return 0
}

// Load gives a program to the kernel, under a name of 15 bytes at most.
func Load(t Type, name string, insns []byte) (*Program, error) {
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&insns[0])
	pin.Pin(&license[0])
	attr := struct {
		progType, insnCount   uint32
		insns, license        uint64
		logLevel, logSize     uint32
		logBuf                uint64
		kernVersion, flags    uint32
		name                  [16]byte
		ifindex, expectAttach uint32
	}{
		progType: t.kind(), insnCount: uint32(len(insns) / InsnSize),
		insns: address(&insns[0]), license: address(&license[0]), expectAttach: t.attachment(),
	}
	copy(attr.name[:15], name)
	fd, err := call(unix.BPF_PROG_LOAD, "PROG_LOAD", &attr)
	if err != nil {
		return nil, err
	}
	return &Program{fd: sys.NewFD(fd), Name: name}, nil
}

func address(b *byte) uint64 { return uint64(uintptr(unsafe.Pointer(b))) }
