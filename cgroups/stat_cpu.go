// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"time"

	"github.com/caisson-run/caisson/internal/parse"
)

// userTick is the unit of times in cpuacct.stat: USER_HZ is 100 on every
// architecture that Go runs on.
const userTick = 10 * time.Millisecond

// scanUnified scans v2's cpu.stat, in microseconds.
func (s *CPUStats) scanUnified(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "usage_usec":
			err = scanTime(&s.Usage, value, time.Microsecond)
		case "user_usec":
			err = scanTime(&s.User, value, time.Microsecond)
		case "system_usec":
			err = scanTime(&s.System, value, time.Microsecond)
		case "nr_periods":
			err = scanUint(&s.Periods, value)
		case "nr_throttled":
			err = scanUint(&s.Throttled, value)
		case "throttled_usec":
			err = scanTime(&s.ThrottledTime, value, time.Microsecond)
		case "nr_bursts":
			err = scanUint(&s.Bursts, value)
		case "burst_usec":
			err = scanTime(&s.BurstTime, value, time.Microsecond)
		}
	}
	return err
}

// scanLegacy scans v1's cpu.stat, in nanoseconds.
func (s *CPUStats) scanLegacy(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "nr_periods":
			err = scanUint(&s.Periods, value)
		case "nr_throttled":
			err = scanUint(&s.Throttled, value)
		case "throttled_time":
			err = scanTime(&s.ThrottledTime, value, time.Nanosecond)
		case "nr_bursts":
			err = scanUint(&s.Bursts, value)
		case "burst_time":
			err = scanTime(&s.BurstTime, value, time.Nanosecond)
		}
	}
	return err
}

// scanAcct scans cpuacct.stat, in ticks.
func (s *CPUStats) scanAcct(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "user":
			err = scanTime(&s.User, value, userTick)
		case "system":
			err = scanTime(&s.System, value, userTick)
		}
	}
	return err
}
