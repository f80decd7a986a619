// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// BlockDevice is the number of the block device whose node is path, and false
// if path is something else.
func BlockDevice(path string) (major, minor uint32, ok bool, err error) {
	var st unix.Stat_t
	for {
		err := unix.Stat(path, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, 0, false, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Mode&unix.S_IFMT == unix.S_IFBLK, nil
}
