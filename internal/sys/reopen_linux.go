// SPDX-License-Identifier: Apache-2.0

package sys

import "golang.org/x/sys/unix"

// LetReopen lets whoever is given a pipe open it again, by /dev/stdout, /dev/stderr
// or /proc/self/fd/1, in the manner in which fd is open. The kernel looks at the
// pipe's mode for that, and has made it its maker's alone: a process with another
// uid, and root in a user namespace, would be denied their own standard output.
//
// A pipe has no path, so only who may look into a process that has it can open it.
// What has one, a named pipe or a file, is left as it is, and so is a pipe that is
// not this process's to change.
func LetReopen(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return
	}
	var add uint32
	if flags&unix.O_ACCMODE != unix.O_WRONLY {
		add |= 0o444
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		add |= 0o222
	}
	if st.Mode&add == add {
		return
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC {
		_ = unix.Fchmod(fd, st.Mode&0o7777|add) // it was made by somebody else
	}
}

// GiveTerminal makes a pseudoterminal uid's, as login(1) does, so that it can be
// opened again. Any other file is left as it is, and so is a terminal that is not
// this process's to give.
func GiveTerminal(fd int, uid uint32) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Uid == uid {
		return
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.DEVPTS_SUPER_MAGIC {
		_ = unix.Fchown(fd, int(uid), -1)
	}
}
