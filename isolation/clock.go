// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"time"

	"github.com/caisson-run/caisson/internal/linux"
)

// clock is where the time comes from; tests have their own.
type clock struct {
	now func() time.Time
	// after calls fn in a goroutine of its own once d has passed, unless stop
	// is called before.
	after func(d time.Duration, fn func()) (stop func() bool)
	// uptime is the time since boot, which nobody sets; 0 if it is not known.
	uptime func() time.Duration
}

func realClock() clock {
	return clock{
		now:   time.Now,
		after: func(d time.Duration, fn func()) func() bool { return time.AfterFunc(d, fn).Stop },
		uptime: func() time.Duration {
			up, err := linux.Uptime()
			if err != nil {
				return 0
			}
			return up
		},
	}
}
