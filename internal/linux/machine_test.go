// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const procStat = `cpu  100 20 30 4000 50 6 7 8 99 1
cpu0 50 10 15 2000 25 3 3 4 0 0
cpu1 50 10 15 2000 25 3 4 4 0 0
intr 12345 0 1
ctxt 99
`

func TestParseCPUTimes(t *testing.T) {
	got, err := ParseCPUTimes([]byte(procStat))
	require.NoError(t, err)
	assert.Equal(t, CPUTimes{CPUs: 2, Idle: (4000 + 50) * 10 * time.Millisecond}, got)
	for _, bad := range []string{
		"", "cpu", "cpu 1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3 4 5 6 7 8\n", "cpu  1 2 3 4 5 6 7 x\ncpu0 1\n",
		"cpu  1 2 3 4 5 6 7 18446744073709551615\ncpu0 1\n", "cpu  1 2 3 4 5 6 7 8\ncpux 1\n",
	} {
		got, err := ParseCPUTimes([]byte(bad))
		require.Error(t, err, "%q", bad)
		assert.Zero(t, got)
	}
}

func FuzzParseCPUTimes(f *testing.F) {
	f.Add([]byte(procStat))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCPUTimes(b)
		if err != nil {
			require.Zero(t, c)
			return
		}
		require.Positive(t, c.CPUs)
		require.GreaterOrEqual(t, c.Idle, time.Duration(0))
	})
}

func memInfo(m MemInfo) string {
	return fmt.Sprintf("MemTotal: %d kB\nMemFree: 1 kB\nMemAvailable: %d kB\nHugePages_Total:       0\nSwapTotal: %d kB\nSwapFree: %d kB\n",
		m.Total>>10, m.Available>>10, m.SwapTotal>>10, m.SwapFree>>10)
}

func TestParseMemInfo(t *testing.T) {
	want := MemInfo{Total: 8 << 30, Available: 3 << 30, SwapTotal: 1 << 30, SwapFree: 4 << 10}
	got, err := ParseMemInfo([]byte(memInfo(want)))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, bad := range []string{
		"", "MemTotal: 1 kB\n", "MemTotal: 1\nMemAvailable: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
		"MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
	} {
		got, err := ParseMemInfo([]byte(bad))
		require.Error(t, err, "%q", bad)
		assert.Zero(t, got)
	}
}

func FuzzParseMemInfo(f *testing.F) {
	f.Add([]byte(memInfo(MemInfo{Total: 1 << 30})))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMemInfo(b)
		if err != nil {
			require.Zero(t, m)
			return
		}
		again, err := ParseMemInfo([]byte(memInfo(m)))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}
