// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func dec(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// FuzzStats holds, for each file: scanning has no memory (a value that was used
// before ends equal to a fresh one), and no line that it understands is lost
// when the lines of the file come alone.
func FuzzStats(f *testing.F) {
	for _, name := range []string{"v1/6.18", "v2/6.12"} {
		files := capturedTree(f, name)
		for i := range numStatFiles {
			if text, ok := files[statFiles[i].name]; ok {
				f.Add(uint8(i), string(text))
			}
		}
	}
	f.Add(uint8(fileIOStat), "8:0 8:16 rbytes=1\n(unknown) wbytes=2")
	f.Add(uint8(fileRDMACurrent), "a hca_handle=1\nb")
	f.Fuzz(func(t *testing.T, file uint8, text string) {
		if file >= uint8(numStatFiles) {
			return
		}
		used := usedStats
		used.reset()
		var fresh Stats
		err := fresh.scan(statFile(file), []byte(text))
		again := used.scan(statFile(file), []byte(text))
		assert.Equal(t, err == nil, again == nil)
		if err != nil {
			return
		}
		fresh.IO.sum()
		used.IO.sum()
		used.HugeTLB = nil
		assert.Equal(t, len(fresh.RDMA), len(used.RDMA))
		assert.Equal(t, fresh.CPU, used.CPU)
		assert.Equal(t, fresh.Memory, used.Memory)
		assert.Equal(t, fresh.PIDs, used.PIDs)
		assert.ElementsMatch(t, fresh.IO.Devices, used.IO.Devices)
		assert.Equal(t, fresh.IO.Total, used.IO.Total)
		assert.ElementsMatch(t, fresh.Misc, used.Misc)
	})
}

var usedStats = Stats{
	IO:   IOStats{Devices: []IODeviceStats{{Device: Device{1, 2}, IOCounters: IOCounters{ReadOps: ReadingOf[uint64](5)}}}},
	RDMA: []RDMAStats{{Device: "old", Handles: ReadingOf[uint64](1)}},
	Misc: []MiscStats{{Name: "old", Current: ReadingOf[uint64](1), Failures: ReadingOf[uint64](1)}},
}

// FuzzMemoryStat holds: exactly the lines with a known key count, the last of
// each wins, and its number comes out as it went in.
func FuzzMemoryStat(f *testing.F) {
	f.Add("anon 1\nfile 2\nanon 3\n")
	f.Add("pgfault 18446744073709551615\nx y z\n")
	f.Fuzz(func(t *testing.T, text string) {
		var s MemoryStats
		if s.scan([]byte(text), false) != nil {
			return
		}
		last := map[string]string{}
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			last[key] = value
		}
		for key, value := range last {
			field := s.field([]byte(key))
			if field == nil {
				continue
			}
			want, err := strconv.ParseUint(value, 10, 64)
			require.NoError(t, err)
			got, ok := field.Value()
			assert.True(t, ok)
			assert.Equal(t, want, got, key)
		}
	})
}
