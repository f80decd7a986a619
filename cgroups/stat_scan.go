// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"math"
	"time"

	"github.com/caisson-run/caisson/internal/parse"
)

// reset empties s but keeps what its slices hold on to.
func (s *Stats) reset() {
	*s = Stats{
		IO:      IOStats{Devices: s.IO.Devices[:0]},
		HugeTLB: s.HugeTLB[:0],
		RDMA:    s.RDMA[:0],
		Misc:    s.Misc[:0],
	}
}

// scan adds the text of file f to s.
func (s *Stats) scan(f statFile, text []byte) error {
	m := &s.Memory
	switch f {
	case fileCPUStatUnified:
		return s.CPU.scanUnified(text)
	case fileCPUStatLegacy:
		return s.CPU.scanLegacy(text)
	case fileCPUAcctUsage:
		return scanTime(&s.CPU.Usage, trim(text), time.Nanosecond)
	case fileCPUAcctStat:
		return s.CPU.scanAcct(text)

	case fileMemoryCurrent, fileMemoryUsageLegacy:
		return scanUint(&m.Current, trim(text))
	case fileMemoryPeak, fileMemoryPeakLegacy:
		return scanUint(&m.Peak, trim(text))
	case fileMemoryMax:
		return scanLimit(&m.Max, text)
	case fileMemoryStat:
		return m.scan(text, false)
	case fileMemoryEvents:
		return m.Events.scan(text)
	case fileMemorySwapCurrent:
		return scanUint(&m.Swap, trim(text))
	case fileMemorySwapPeak:
		return scanUint(&m.SwapPeak, trim(text))
	case fileMemorySwapMax:
		return scanLimit(&m.SwapMax, text)
	case fileMemoryLimitLegacy:
		return scanLimitLegacy(&m.Max, text, mostPage)
	case fileMemoryMemswLegacy:
		return m.scanMemsw(text)
	case fileMemoryStatLegacy:
		return m.scan(text, true)
	case fileMemoryKernelLegacy:
		return scanUint(&m.Kernel, trim(text))
	case fileMemoryFailcntLegacy, fileMemoryMemswFailcntLegacy:
		return m.Events.scanFailcnt(text)
	case fileMemoryOOMLegacy:
		return m.Events.scanLegacy(text)

	case fileIOStat:
		return s.IO.scan(text)
	case fileIOBytesLegacy:
		return s.IO.scanLegacy(text, false)
	case fileIOOpsLegacy:
		return s.IO.scanLegacy(text, true)

	case filePIDsCurrent:
		return scanUint(&s.PIDs.Current, trim(text))
	case filePIDsPeak:
		return scanUint(&s.PIDs.Peak, trim(text))
	case filePIDsMax:
		return scanLimit(&s.PIDs.Max, text)
	case filePIDsEvents:
		return s.PIDs.Events.scan(text)

	case fileRDMACurrent:
		return s.scanRDMA(text)
	case fileMiscCurrent:
		return s.scanMisc(text)
	case fileMiscEvents:
		return s.scanMiscEvents(text)
	default: // the others are read elsewhere
		return nil
	}
}

// trim takes the newline off a file of one value.
func trim(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return text[:n-1]
	}
	return text
}

func scanUint(into *Reading[uint64], b []byte) error {
	n, ok := parse.Uint(b)
	if !ok {
		return notNumber(b)
	}
	*into = ReadingOf(n)
	return nil
}

func scanTime(into *Reading[time.Duration], b []byte, unit time.Duration) error {
	n, ok := parse.Uint(b)
	if !ok || n > uint64(math.MaxInt64/unit) {
		return notNumber(b)
	}
	*into = ReadingOf(time.Duration(n) * unit)
	return nil
}

func scanLimit(into *Limit, text []byte) error {
	b := trim(text)
	if string(b) == wordMax {
		*into = Max()
		return nil
	}
	n, ok := parse.Uint(b)
	if !ok {
		return notNumber(b)
	}
	*into = Limit{set, n}
	return nil
}

// scanLimitLegacy scans a limit of v1's memory and hugetlb files. Where there is
// none, they say the largest number of whole pages that fits in a long.
func scanLimitLegacy(into *Limit, text []byte, page uint64) error {
	if err := scanLimit(into, text); err != nil {
		return err
	}
	if n, ok := into.Value(); ok && n >= math.MaxInt64&^(page-1) {
		*into = Max()
	}
	return nil
}

// mostPage is the largest base page of the architectures that Go runs on.
const mostPage = 64 << 10

// scanKey scans the value of key in a flat keyed file, one "key value" a line.
func scanKey(into *Reading[uint64], text []byte, want string) error {
	for len(text) > 0 {
		var key, value []byte
		if key, value, text = parse.Pair(text); string(key) == want {
			return scanUint(into, value)
		}
	}
	return nil
}

func notNumber(b []byte) error { return fmt.Errorf("%.64q is not a number in range", b) }

// next makes room for one more element and returns it as it was left by an
// earlier use of the slice.
func next[T any](s []T) ([]T, *T) {
	if len(s) < cap(s) {
		s = s[:len(s)+1]
	} else {
		var zero T
		s = append(s, zero)
	}
	return s, &s[len(s)-1]
}

// keep is b as a string, without allocating if old is that already.
func keep(old string, b []byte) string {
	if old == string(b) {
		return old
	}
	return string(b)
}
