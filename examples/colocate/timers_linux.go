// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"time"
)

// exactTimers has the thread's sleeps end when they are due, not up to 50 us
// later (PR_SET_TIMERSLACK of prctl(2)).
func exactTimers() error {
	const prSetTimerslack = 29
	if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0); errno != 0 {
		return errno
	}
	return nil
}

// sleep keeps the thread itself asleep for d, or until a signal.
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
