// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// PidfdOpen holds the process pid (pidfd_open(2), Linux 5.3). The descriptor is
// close-on-exec and polls readable once the process has ended.
func PidfdOpen(pid int) (*FD, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open "+strconv.Itoa(pid), err)
	}
	return NewFD(fd), nil
}

// PidfdSignal sends sig to the process that pidfd holds; it can never reach
// another one (pidfd_send_signal(2), Linux 5.1).
func PidfdSignal(pidfd int, sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil {
		return os.NewSyscallError("pidfd_send_signal "+strconv.Itoa(int(sig)), err)
	}
	return nil
}

// PidfdInode returns the number that the kernel gave the process of a pidfd and
// gives no other process until the machine boots. It is 0 before Linux 6.9, which
// has pidfs: all pidfds are one inode there.
func PidfdInode(pidfd int) uint64 {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(pidfd, &fs) != nil || fs.Type != unix.PID_FS_MAGIC || unix.Fstat(pidfd, &st) != nil {
		return 0
	}
	return st.Ino
}
