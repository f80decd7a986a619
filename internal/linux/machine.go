// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"bytes"
	"errors"
	"time"

	"github.com/caisson-run/caisson/internal/parse"
)

// CPUTimes is the machine's line of /proc/stat.
type CPUTimes struct {
	CPUs int // how many are online

	// Idle is the time in which they had nothing to do, iowait included, summed.
	// The kernel measures it where the tick stops in idle (CONFIG_NO_HZ_IDLE),
	// and the times of work in the same line are sampled by the tick: what is
	// as periodic as the tick counts there as nothing or as all.
	Idle time.Duration
}

// tick is the unit of /proc/stat, USER_HZ, the same on all architectures.
const tick = 10 * time.Millisecond

// ParseCPUTimes parses the contents of /proc/stat. After an error the CPUTimes
// is zero.
func ParseCPUTimes(b []byte) (CPUTimes, error) {
	bad := errors.New("not the contents of proc_stat(5)")
	var t CPUTimes
	line, rest := parse.Line(b)
	name, fields := parse.Field(line)
	if string(name) != "cpu" {
		return CPUTimes{}, bad
	}
	// user nice system idle iowait irq softirq steal; guest and guest_nice are
	// in user and nice already.
	const idle, iowait, last = 3, 4, 7
	for i := range last + 1 {
		var f []byte
		f, fields = parse.Field(fields)
		n, ok := parse.Uint(f)
		if !ok || n > uint64(1<<63-1)/uint64(tick)/(last+1) {
			return CPUTimes{}, bad
		}
		if i == idle || i == iowait {
			t.Idle += time.Duration(n) * tick
		}
	}
	for len(rest) > 0 {
		line, rest = parse.Line(rest)
		name, _ = parse.Field(line)
		number, ok := bytes.CutPrefix(name, []byte("cpu"))
		if !ok {
			break
		}
		if _, ok := parse.Uint(number); !ok {
			return CPUTimes{}, bad
		}
		t.CPUs++
	}
	if t.CPUs == 0 {
		return CPUTimes{}, bad
	}
	return t, nil
}

// MemInfo is the part of /proc/meminfo that says how much is left, in bytes.
type MemInfo struct {
	Total, Available    uint64
	SwapTotal, SwapFree uint64
}

// ParseMemInfo parses the contents of /proc/meminfo. After an error the MemInfo is
// zero.
func ParseMemInfo(b []byte) (MemInfo, error) {
	var m MemInfo
	found := 0
	for len(b) > 0 {
		var line []byte
		line, b = parse.Line(b)
		name, rest := parse.Field(line)
		var to *uint64
		switch string(name) {
		case "MemTotal:":
			to = &m.Total
		case "MemAvailable:":
			to = &m.Available
		case "SwapTotal:":
			to = &m.SwapTotal
		case "SwapFree:":
			to = &m.SwapFree
		default:
			continue
		}
		number, unit := parse.Field(rest)
		unit, _ = parse.Field(unit)
		kib, ok := parse.Uint(number)
		if !ok || string(unit) != "kB" || kib > 1<<54-1 {
			return MemInfo{}, errors.New("not the contents of proc_meminfo(5)")
		}
		*to = kib << 10
		found++
	}
	// A kernel without swap has its lines all the same.
	if found != 4 {
		return MemInfo{}, errors.New("not the four lines about memory and swap of proc_meminfo(5)")
	}
	return m, nil
}
