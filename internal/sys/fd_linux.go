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
