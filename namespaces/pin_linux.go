// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"errors"
	"os"
	"syscall"

	"github.com/caisson-run/caisson/internal/linux"
)

// Pin keeps the namespace by mounting it on a new file at path, as ip-netns(8)
// does in /run/netns; [OpenPath] finds it there. If it fails, no file is left.
//
// Errors are [*FileError]: [os.ErrExist] if there is something at path,
// [os.ErrPermission] without CAP_SYS_ADMIN.
func (h *Handle) Pin(path string) error {
	fail := func(err error) error { return &FileError{Op: "pin", Path: path, Data: h.String(), Err: err} }
	if h.FD() < 0 {
		return fail(os.ErrClosed)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fail(errors.Unwrap(err))
	}
	_ = f.Close()
	if err := linux.BindNS(h.FD(), path); err != nil {
		return fail(errors.Join(err, os.Remove(path)))
	}
	return nil
}

// Unpin takes a pin away: the mount, and the file below it. The namespace ends
// with its last process, handle or pin. What a crash left of a pin, an empty
// file, is removed as well; nothing at path is nil, so it may be repeated. Any
// other file matches [ErrNotNamespace] and is left alone.
func Unpin(path string) error {
	fail := func(err error) error { return &FileError{Op: "unpin", Path: path, Err: err} }
	fd, err := linux.OpenNS(path, false)
	switch {
	case err == nil:
		_ = syscall.Close(fd)
		if err := linux.UnmountFile(path); err != nil {
			return fail(err)
		}
	case errors.Is(err, os.ErrNotExist):
		return nil
	case !errors.Is(err, ErrNotNamespace):
		return fail(err)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fail(errors.Unwrap(err))
	case !info.Mode().IsRegular() || info.Size() != 0:
		return fail(ErrNotNamespace) // a second mount, a link, somebody's file
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(errors.Unwrap(err))
	}
	return nil
}
