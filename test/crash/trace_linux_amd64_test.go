// SPDX-License-Identifier: Apache-2.0

package crash

import "syscall"

// changesHere is changes for the calls that only this architecture has.
func changesHere(info *syscallInfo) bool {
	switch info.nr {
	case syscall.SYS_OPEN:
		return info.args[1]&(syscall.O_CREAT|syscall.O_TRUNC) != 0
	case syscall.SYS_MKDIR, syscall.SYS_RMDIR, syscall.SYS_UNLINK, syscall.SYS_RENAME:
		return true
	}
	return false
}
