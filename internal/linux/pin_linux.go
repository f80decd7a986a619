// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Unshare gives the calling thread a new namespace of the kind flag. The caller
// has locked the goroutine to the thread.
func Unshare(flag int) error { return os.NewSyscallError("unshare", unix.Unshare(flag)) }

// BindNS mounts the namespace fd on the file at path, which is no link.
func BindNS(fd int, path string) error {
	at, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(at)
	// By descriptor: nothing that happens to the path leads elsewhere.
	const own = "/proc/thread-self/fd/"
	return os.NewSyscallError("mount", unix.Mount(own+strconv.Itoa(fd), own+strconv.Itoa(at), "", unix.MS_BIND, ""))
}

// UnmountFile takes the topmost mount off the file at path, which is no link. A
// file that nothing is mounted on is nil.
func UnmountFile(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == unix.EINVAL {
		return nil
	}
	return os.NewSyscallError("umount2", err)
}

// MountShared makes the directory at path a mount point of its own that shares
// what is mounted on it and taken off with its copies in other mount namespaces,
// as ip-netns(8) does with /run/netns. One that is shared already stays as it is.
func MountShared(path string) error {
	share := func() error { return unix.Mount("", path, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if err == unix.EINVAL { // no mount point
		if err = unix.Mount(path, path, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			// Private in between: it would share with the mount that it is a part
			// of, and whatever is mounted on it would be there once more, below.
			if err = unix.Mount("", path, "none", unix.MS_PRIVATE|unix.MS_REC, ""); err == nil {
				err = share()
			}
			if err != nil {
				err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
			}
		}
	}
	return os.NewSyscallError("mount", err)
}

// DupFD duplicates a descriptor, as one above the standard ones. A negative fd
// is [os.ErrClosed].
func DupFD(fd int) (int, error) {
	if fd < 0 {
		return -1, os.ErrClosed
	}
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	return n, os.NewSyscallError("fcntl", err)
}
