// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is the time since boot, sleep included: CLOCK_BOOTTIME, which nobody
// sets.
func Uptime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}
