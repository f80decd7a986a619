// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ModeInRoot is the kind and permissions of what path is to a process whose root
// is the directory dir: no link in there leads outside. What it says may have
// changed by the time it is read.
//
// Linux 5.6.
func ModeInRoot(dir, path string) (fs.FileMode, error) {
	root, err := ignoringEINTR(func() (int, error) { return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd := -1
	for range 100 { // EAGAIN: something was renamed or mounted meanwhile
		fd, err = ignoringEINTR(func() (int, error) { return unix.Openat2(root, path, &how) })
		if err != unix.EAGAIN {
			break
		}
	}
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}
