// SPDX-License-Identifier: Apache-2.0

package linux

import "github.com/caisson-run/caisson/internal/sys"

// Identify is what tells a process, which pidfd holds, from another of its number in
// one boot: the inode of its pidfd or, where the kernel gives all of them the same,
// its start time. Errors are those of [StartTime].
func Identify(pid, pidfd int) (inode, since uint64, err error) {
	if inode = sys.PidfdInode(pidfd); inode == 0 {
		since, err = StartTime(pid)
	}
	return inode, since, err
}
