// SPDX-License-Identifier: Apache-2.0

package devfilter

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// Program is a loaded program. Close frees the descriptor; what is attached
// stays attached.
type Program struct {
	fd   *sys.FD
	ID   uint32
	Name string
}

// Close frees the descriptor. Closing twice is nil.
func (p *Program) Close() error { return p.fd.Close() }

// bpf does one bpf(2). attr is as long as the kernel's largest: from 6.17 to
// 7.1 BPF_PROG_QUERY writes past a shorter one.
func bpf(cmd int, attr *[256]byte, size uintptr) (int, error) {
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
	r, err := bpf(cmd, long, size)
	copy(short, long[:])
	if err != nil {
		return -1, fmt.Errorf("bpf(%s): %w", what, err)
	}
	return r, nil
}

// Load gives the rules to the kernel, under their name.
func Load(rules []Rule) (*Program, error) {
	insns, license, name := Assemble(rules), []byte("Apache-2.0\x00"), Name(rules)
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
		progType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, insnCount: uint32(len(insns) / 8),
		insns: address(&insns[0]), license: address(&license[0]), expectAttach: unix.BPF_CGROUP_DEVICE,
	}
	copy(attr.name[:15], name)
	fd, err := call(unix.BPF_PROG_LOAD, "PROG_LOAD", &attr)
	if err != nil {
		return nil, err
	}
	return &Program{fd: sys.NewFD(fd), Name: name}, nil
}

func address(b *byte) uint64 { return uint64(uintptr(unsafe.Pointer(b))) }

// Filters are the programs that were found attached to a group.
type Filters struct {
	Programs []*Program
	flags    uint32 // how they are attached
}

// Close frees the descriptors.
func (f *Filters) Close() {
	for _, p := range f.Programs {
		_ = p.Close()
	}
}

// Attached finds the programs attached to the group whose directory is dir.
func Attached(dir int) (_ *Filters, err error) {
	var ids [64]uint32 // BPF_CGROUP_MAX_PROGS
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids)
	attr := struct {
		target, attachType, queryFlags, attachFlags uint32
		ids                                         uint64
		count, _                                    uint32
	}{
		target: uint32(dir), attachType: unix.BPF_CGROUP_DEVICE,
		ids: uint64(uintptr(unsafe.Pointer(&ids))), count: uint32(len(ids)),
	}
	if _, err := call(unix.BPF_PROG_QUERY, "PROG_QUERY", &attr); err != nil {
		return nil, err
	}
	found := &Filters{flags: attr.attachFlags}
	defer func() {
		if err != nil {
			found.Close()
		}
	}()
	for _, id := range ids[:attr.count] {
		p, err := byID(id)
		if errors.Is(err, unix.ENOENT) {
			continue // detached since
		}
		if err != nil {
			return nil, err
		}
		found.Programs = append(found.Programs, p)
	}
	return found, nil
}

func byID(id uint32) (*Program, error) {
	get := struct{ id, next, flags uint32 }{id: id}
	fd, err := call(unix.BPF_PROG_GET_FD_BY_ID, "PROG_GET_FD_BY_ID", &get)
	if err != nil {
		return nil, err
	}
	p := &Program{fd: sys.NewFD(fd), ID: id}
	var info [80]byte // struct bpf_prog_info as far as the name
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&info)
	attr := struct {
		fd, length uint32
		info       uint64
	}{uint32(fd), uint32(len(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	if _, err := call(unix.BPF_OBJ_GET_INFO_BY_FD, "OBJ_GET_INFO_BY_FD", &attr); err != nil {
		_ = p.Close()
		return nil, err
	}
	name, _, _ := bytes.Cut(info[64:], []byte{0})
	p.Name = string(name)
	return p, nil
}

type attachment struct{ target, prog, attachType, flags, replace uint32 }

// Replace makes to, in order, the programs of the group in the place of those
// that are attached now.
func Replace(dir int, to ...*Program) error {
	now, err := Attached(dir)
	if err != nil {
		return err
	}
	defer now.Close()
	flags := uint32(unix.BPF_F_ALLOW_MULTI)
	if len(now.Programs) > 0 {
		flags = now.flags // others are refused while something is attached
	}
	attr := attachment{target: uint32(dir), attachType: unix.BPF_CGROUP_DEVICE}
	if len(to) == 1 && len(now.Programs) == 1 && flags&unix.BPF_F_ALLOW_MULTI != 0 {
		attr.prog, attr.flags = uint32(to[0].fd.Int()), flags|unix.BPF_F_REPLACE
		attr.replace = uint32(now.Programs[0].fd.Int())
		_, err := call(unix.BPF_PROG_ATTACH, "PROG_ATTACH", &attr)
		return err
	}
	// New ones first: until the old ones are gone both have to allow.
	for _, p := range to {
		attr.prog, attr.flags = uint32(p.fd.Int()), flags
		if _, err := call(unix.BPF_PROG_ATTACH, "PROG_ATTACH", &attr); err != nil {
			return err
		}
	}
	if len(to) > 0 && flags&unix.BPF_F_ALLOW_MULTI == 0 {
		return nil // there was room for one, which the new one has
	}
	for _, p := range now.Programs {
		attr.prog, attr.flags = uint32(p.fd.Int()), 0
		if _, err := call(unix.BPF_PROG_DETACH, "PROG_DETACH", &attr); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
