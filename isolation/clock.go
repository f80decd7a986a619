// SPDX-License-Identifier: Apache-2.0

package isolation

import "time"

// clock is where the time comes from; tests have their own.
type clock struct {
	now func() time.Time
	// after calls fn in a goroutine of its own once d has passed, unless stop
	// is called before.
	after func(d time.Duration, fn func()) (stop func() bool)
}

func realClock() clock {
	return clock{time.Now, func(d time.Duration, fn func()) func() bool { return time.AfterFunc(d, fn).Stop }}
}
