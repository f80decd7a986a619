// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"errors"
	"runtime"
	"unsafe"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

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

// Attached finds the programs of the type attached to the group whose directory is dir.
func Attached(t Type, dir int) (_ *Filters, err error) {
	var ids [64]uint32 // BPF_CGROUP_MAX_PROGS
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids)
	attr := struct {
		target, attachType, queryFlags, attachFlags uint32
		ids                                         uint64
		count, _                                    uint32
	}{
		target: uint32(dir), attachType: t.attachment(),
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

// Add attaches p to the group besides those of its type that are attached already.
func Add(t Type, dir int, p *Program) error {
	attr := attachment{target: uint32(dir), prog: uint32(p.fd.Int()), attachType: t.attachment(), flags: unix.BPF_F_ALLOW_MULTI}
	_, err := call(unix.BPF_PROG_ATTACH, "PROG_ATTACH", &attr)
	return err
}

// Remove detaches p from the group. The error is ENOENT if it was not attached.
func Remove(t Type, dir int, p *Program) error {
	attr := attachment{target: uint32(dir), prog: uint32(p.fd.Int()), attachType: t.attachment()}
	_, err := call(unix.BPF_PROG_DETACH, "PROG_DETACH", &attr)
	return err
}

// Replace makes to, in order, the programs of the group in the place of those
// of the type that are attached now.
func Replace(t Type, dir int, to ...*Program) error {
	now, err := Attached(t, dir)
	if err != nil {
		return err
	}
	defer now.Close()
	flags := uint32(unix.BPF_F_ALLOW_MULTI)
	if len(now.Programs) > 0 {
		flags = now.flags // others are refused while something is attached
	}
	attr := attachment{target: uint32(dir), attachType: t.attachment()}
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
		if err := Remove(t, dir, p); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
