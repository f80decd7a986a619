// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const head = "Inter-|   Receive                                                |  Transmit\n" +
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"

// devLine is what dev_seq_printf_stats prints.
func devLine(name string, s LinkStats) string {
	return fmt.Sprintf("%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n",
		name, s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped, 901, 902, 903, 904,
		s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped, 905, 906, 907, 908)
}

func TestFindStats(t *testing.T) {
	lo := LinkStats{RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}
	eth := LinkStats{RxBytes: math.MaxUint64, TxDropped: math.MaxUint64}
	text := head + devLine("lo", lo) + devLine("eth0", eth) + devLine("fifteen-letters", lo)
	for name, want := range map[string]LinkStats{"lo": lo, "eth0": eth, "fifteen-letters": lo} {
		got, found, err := findStats([]byte(text), name)
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, want, got)
	}
	for _, name := range []string{"", "l", "o", "eth", "eth1", "face", "Inter-|", "fifteen-letter", "lo:", " lo"} {
		got, found, err := findStats([]byte(text), name)
		require.NoError(t, err, name)
		assert.False(t, found, "%q", name)
		assert.Zero(t, got)
	}
	for _, cut := range []string{"", head, text[:len(head)+20], strings.TrimSuffix(head+devLine("lo", lo), "\n")} {
		_, found, err := findStats([]byte(cut), "lo")
		require.NoError(t, err)
		assert.False(t, found)
	}
	for _, bad := range []string{"lo:\n", "lo: 1 2 3\n", "lo: a\n", "lo: -1" + strings.Repeat(" 0", 15) + "\n",
		"lo: 18446744073709551616" + strings.Repeat(" 0", 15) + "\n",
		"lo: 99999999999999999999" + strings.Repeat(" 0", 15) + "\n",
		"lo:" + strings.Repeat(" 0", 17) + "\n"} {
		got, found, err := findStats([]byte(bad), "lo")
		assert.ErrorIs(t, err, errDev, "%q", bad)
		assert.False(t, found)
		assert.Zero(t, got)
	}
}

func FuzzFindStats(f *testing.F) {
	f.Add([]byte(head+devLine("lo", LinkStats{RxBytes: 1})), "lo")
	f.Add([]byte("lo: 18446744073709551616 0\n"), "lo")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		st, found, err := findStats(b, name)
		if err != nil || !found {
			require.Zero(t, st)
			require.False(t, found)
			return
		}
		again, found, err := findStats([]byte(head+devLine(name, st)), name)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, st, again)
	})
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"lo", "eth0", "a", "fifteen-letters", "eth0.100", "...", "%d", "é", "\x01"} {
		assert.NoError(t, checkName(ok), "%q", ok)
	}
	for _, bad := range []string{"", ".", "..", "sixteen--letters", "a/b", "a:1", "a b", "a\n", "a\tb", "lo\x00", "\x00",
		strings.Repeat("x", 300)} {
		assert.ErrorIs(t, checkName(bad), ErrInvalid, "%q", bad)
	}
	assert.EqualError(t, checkName("a b"), `link name "a b": has a slash, colon, space or NUL`)
}

func TestErrors(t *testing.T) {
	id := namespaces.ID{Kind: namespaces.Network, Ino: 4026531840}
	err := error(&OpError{Op: "set up", Link: "eth0", NS: id, Err: noLink{}})
	assert.EqualError(t, err, "set up eth0 in net:[4026531840]: no such link")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NotErrorIs(t, err, io.EOF)
	assert.EqualError(t, &OpError{Op: "list links", NS: id, Err: io.EOF}, "list links in net:[4026531840]: EOF")
}
