// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
)

// Handle holds one namespace, which exists at least until Close. It is safe for
// use by many goroutines.
type Handle struct {
	fd *sys.FD
	id ID
}

// OpenPID holds the namespace of the process (or thread) pid. Where the process
// may have ended and its pid may have been used again, use [OpenPIDFD].
//
// The error matches [os.ErrNotExist] if there is no such process or only a
// zombie, [os.ErrPermission] if ptrace(2) would be refused, [ErrNotSupported] if
// the kernel lacks the kind. The handle of a pid namespace is that of the
// process, not of its future children.
func OpenPID(pid int, kind Kind) (*Handle, error) {
	if err := checkPID(pid, kind); err != nil {
		return nil, err
	}
	return openProc("/proc/"+strconv.Itoa(pid), kind)
}

// OpenPIDFD holds the namespace of the process that pidfd refers to. pidfd is
// only used during the call.
//
// Errors are those of [OpenPID]; a process that was waited for, or is not
// visible in the caller's pid namespace, matches [os.ErrNotExist].
//
// Linux 5.3.
func OpenPIDFD(pidfd int, kind Kind) (*Handle, error) {
	pid, err := linux.PIDOf(pidfd)
	if err != nil {
		return nil, fmt.Errorf("open %s namespace: %w", kind, err)
	}
	h, err := OpenPID(pid, kind)
	// As long as the process was not waited for, nobody else has its pid: if it
	// still exists now, its namespace is what was opened.
	if gone := linux.Exists(pidfd); gone != nil {
		if h != nil {
			_ = h.Close()
		}
		return nil, fmt.Errorf("open %s namespace of process %d: %w", kind, pid, gone)
	}
	return h, err
}

// OpenPath holds the namespace that is mounted on path, as ip-netns(8) does in
// /run/netns. [Handle.Kind] tells of which kind it is. A file of any other sort
// matches [ErrNotNamespace] and is never opened; so does a symbolic link as the
// last element: for those in /proc there is [OpenPID].
func OpenPath(path string) (*Handle, error) {
	fd, err := linux.OpenNS(path, false)
	if err != nil {
		return nil, &FileError{Op: "open", Path: path, Err: err}
	}
	return newHandle(fd, path)
}

// Current holds the namespace of the calling thread: the process's own, except
// inside the function of [Do].
func Current(kind Kind) (*Handle, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	return openProc("/proc/thread-self", kind)
}

// IDOf returns the id of a process's namespace without holding it. Errors are
// those of [OpenPID].
func IDOf(pid int, kind Kind) (ID, error) {
	if err := checkPID(pid, kind); err != nil {
		return ID{}, err
	}
	proc := "/proc/" + strconv.Itoa(pid)
	path := proc + "/ns/" + kind.String()
	dev, ino, err := linux.PathDevIno(path)
	if err != nil {
		return ID{}, explain(proc, path, kind, err)
	}
	return ID{Kind: kind, Dev: dev, Ino: ino}, nil
}

func checkPID(pid int, kind Kind) error {
	if pid <= 0 {
		return &InvalidError{Field: "pid", Value: strconv.Itoa(pid), Reason: "not positive"}
	}
	return checkKind(kind)
}

func checkKind(kind Kind) error {
	if !kind.valid() {
		return &InvalidError{Field: "namespace kind", Value: kind.String(), Reason: "no such kind"}
	}
	return nil
}

func openProc(proc string, kind Kind) (*Handle, error) {
	path := proc + "/ns/" + kind.String()
	fd, err := linux.OpenNS(path, true)
	if err != nil {
		return nil, explain(proc, path, kind, err)
	}
	return newHandle(fd, path)
}

// explain finds out why proc has no such namespace.
func explain(proc, path string, kind Kind, err error) error {
	fe := &FileError{Op: "open", Path: path, Err: err}
	const own = "/proc/thread-self/ns"
	switch {
	case errors.Is(err, os.ErrNotExist) && missing(own+"/"+kind.String()) && !missing(own):
		return &UnsupportedError{Feature: kind.String() + " namespaces", Since: kinds[kind].since,
			Reason: "this kernel has none", Err: fe}
	case errors.Is(err, os.ErrPermission) && missing(proc):
		// The links of a process that ended after its directory was found say
		// EACCES, too.
		fe.Err = os.ErrNotExist
	}
	return fe
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

// newHandle takes ownership of fd; path is what errors call it.
func newHandle(fd int, path string) (*Handle, error) {
	h := &Handle{fd: sys.NewFD(fd)}
	flag, err := linux.NSType(fd)
	if err == nil {
		h.id.Kind = kindOfFlag(uint32(flag))
		if h.id.Kind == 0 {
			err = &UnsupportedError{Feature: fmt.Sprintf("namespaces of type %#x", flag), Reason: "unknown to this package"}
		}
	}
	if err == nil {
		h.id.Dev, h.id.Ino, err = linux.DevIno(fd)
	}
	if err != nil {
		_ = h.Close()
		return nil, &FileError{Op: "open", Path: path, Err: err}
	}
	return h, nil
}

// ID identifies the namespace, also after Close.
func (h *Handle) ID() ID { return h.id }

// Kind is what the namespace isolates.
func (h *Handle) Kind() Kind { return h.id.Kind }

// String is the ID's: "net:[4026531840]".
func (h *Handle) String() string { return h.id.String() }

// FD returns the descriptor, or -1 once the handle is closed. It stays the
// handle's, which must stay open while the number is in use.
func (h *Handle) FD() int { return h.fd.Int() }

// Clone holds the same namespace once more, by a descriptor of its own.
func (h *Handle) Clone() (*Handle, error) {
	fd, err := linux.DupFD(h.FD())
	if err != nil {
		return nil, &FileError{Op: "duplicate", Path: h.String(), Err: err}
	}
	return &Handle{fd: sys.NewFD(fd), id: h.id}, nil
}

// Close frees the descriptor. Closing twice is nil.
func (h *Handle) Close() error {
	if h == nil {
		return nil
	}
	return h.fd.Close()
}

// UserNS holds the user namespace that owns this one: capabilities over this
// namespace are those held there. The error matches [os.ErrPermission] if it
// lies outside the caller's own user namespace.
//
// Linux 4.9. ioctl_ns(2).
func (h *Handle) UserNS() (*Handle, error) { return h.related("user namespace", linux.NSUser) }

// Parent holds the parent of a pid or user namespace. The error matches
// [os.ErrPermission] if there is none or the caller may not see it, and
// [ErrNotSupported] for the other kinds, which have no parents.
//
// Linux 4.9. ioctl_ns(2).
func (h *Handle) Parent() (*Handle, error) {
	if h.Kind() != PID && h.Kind() != User {
		return nil, &UnsupportedError{Feature: "parent of " + h.String(), Reason: "only pid and user namespaces have one"}
	}
	return h.related("parent", linux.NSParent)
}

func (h *Handle) related(what string, get func(int) (int, error)) (*Handle, error) {
	name := what + " of " + h.String()
	fd := h.FD()
	if fd < 0 {
		return nil, &FileError{Op: "open", Path: name, Err: os.ErrClosed}
	}
	other, err := get(fd)
	if err != nil {
		return nil, &FileError{Op: "open", Path: name, Err: err}
	}
	return newHandle(other, name)
}
