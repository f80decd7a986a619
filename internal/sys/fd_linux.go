// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

func closeFD(fd int) error {
	// close(2): on Linux the descriptor is gone even when the call reports
	// EINTR, so it is never retried.
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// Dup is another descriptor of the same open file, close-on-exec.
func (f *FD) Dup() (*FD, error) {
	fd, err := unix.FcntlInt(uintptr(f.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return NewFD(fd), nil
}
