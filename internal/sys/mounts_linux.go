// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount mounts a new file system, nosuid and nodev, at a directory.
func Mount(source, dir, fstype, options string) error {
	err := unix.Mount(source, dir, fstype, unix.MS_NOSUID|unix.MS_NODEV, options)
	return mountError("mount "+fstype, dir, err)
}

// MountOverlay mounts an overlay, nodev, at a directory: of the directories lower,
// the topmost first, and what is written to them in upper. They are named by
// descriptors, so no path needs escapes.
func MountOverlay(dir string, lower []string, upper, work string) error {
	var names []string
	for _, d := range append(append([]string{}, lower...), upper, work) {
		fd, err := unix.Open(d, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: d, Err: err}
		}
		defer unix.Close(fd)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	n := len(lower)
	options := "lowerdir=" + strings.Join(names[:n], ":") + ",upperdir=" + names[n] + ",workdir=" + names[n+1]
	return mountError("mount overlay", dir, unix.Mount("overlay", dir, "overlay", unix.MS_NODEV, options))
}

func mountError(op, dir string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: dir, Err: err}
}

// Unmount takes away all that is mounted at a directory. Nothing, or no directory,
// is nil.
func Unmount(dir string) error {
	const most = 64 // on top of each other
	for range most {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		// Without the right to, nothing was mounted either.
		if errors.Is(err, unix.EPERM) && unix.Geteuid() != 0 {
			return nil
		}
		if err != nil {
			return mountError("unmount", dir, err)
		}
	}
	return mountError("unmount", dir, unix.EBUSY)
}

// SetSubreaper has processes that descend from this one, and whose parents end,
// become its children. Linux 3.4.
func SetSubreaper() error {
	return os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}
