// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenNS opens the namespace file at path, of any kind. With follow it may be a
// link, such as the ones in /proc/PID/ns; without, the last element must be the
// file itself. A file of another kind is never opened, so a device, pipe or
// socket in its place comes to no effect: the error is [ErrNotNamespace].
func OpenNS(path string, follow bool) (fd int, err error) {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	look, err := ignoringEINTR(func() (int, error) { return unix.Open(path, flags, 0) })
	if err == unix.ESRCH {
		return -1, noProcess{}
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(look)
	var st unix.Statfs_t
	if err := unix.Fstatfs(look, &st); err != nil {
		return -1, os.NewSyscallError("fstatfs", err)
	}
	if st.Type != unix.NSFS_MAGIC {
		var file unix.Stat_t
		if unix.Fstat(look, &file) == nil && file.Mode&unix.S_IFMT == unix.S_IFLNK {
			return -1, fmt.Errorf("a symbolic link: %w", ErrNotNamespace)
		}
		return -1, ErrNotNamespace
	}
	return ignoringEINTR(func() (int, error) {
		return unix.Open("/proc/thread-self/fd/"+strconv.Itoa(look), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
}

// NSType returns the CLONE_NEW flag of the namespace fd.
//
// Linux 4.11. ioctl_ns(2), ioctl_nsfs(2).
func NSType(fd int) (int, error) {
	flag, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err == unix.ENOTTY {
		return 0, ErrNotNamespace
	}
	return flag, os.NewSyscallError("ioctl NS_GET_NSTYPE", err)
}

// NSUser opens the user namespace that owns the namespace fd. The error is
// EPERM if that lies outside the caller's user namespace.
//
// Linux 4.9. ioctl_ns(2).
func NSUser(fd int) (int, error) {
	n, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	return n, os.NewSyscallError("ioctl NS_GET_USERNS", err)
}

// NSParent opens the parent of the pid or user namespace fd. The error is EPERM
// if there is none, or none that the caller may see, and EINVAL for other kinds.
//
// Linux 4.9. ioctl_ns(2).
func NSParent(fd int) (int, error) {
	n, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
	return n, os.NewSyscallError("ioctl NS_GET_PARENT", err)
}

// DevIno returns what identifies an open file.
func DevIno(fd int) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, os.NewSyscallError("fstat", err)
	}
	return uint64(st.Dev), st.Ino, nil
}

// PathDevIno returns what identifies the file at path, following links.
func PathDevIno(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	if err == unix.ESRCH {
		return 0, 0, noProcess{}
	}
	return uint64(st.Dev), st.Ino, err
}

// Setns moves the calling thread into the namespace fd of the kind flag. The
// caller has locked the goroutine to the thread.
func Setns(fd, flag int) error { return os.NewSyscallError("setns", unix.Setns(fd, flag)) }

// UnshareFS gives the calling thread a root, working directory and umask of its
// own, for good: the thread must end with its goroutine.
func UnshareFS() error { return os.NewSyscallError("unshare CLONE_FS", unix.Unshare(unix.CLONE_FS)) }

// OnMainThread reports whether the calling thread is the first of the process,
// which the Go runtime parks instead of ending it.
func OnMainThread() bool { return syscall.Gettid() == syscall.Getpid() }

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
