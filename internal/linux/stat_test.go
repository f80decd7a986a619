// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// statLine is what fs/proc/array.c prints, with the fields that matter.
func statLine(s Stat) string {
	flags := 4194560
	if s.Exiting {
		flags |= 4
	}
	blocked := 0
	if s.BeforeExec {
		flags |= 64
		blocked = 0x7ffbfeff
	}
	return fmt.Sprintf("%d (%s) %c %d 1 1 0 -1 %d 133 0 0 0 0 0 0 0 20 0 1 0 %d 2621440 226 18446744073709551615 1 1 0 0 0 0 %d 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		s.PID, s.Comm, s.State, s.PPID, flags, s.StartTime, blocked)
}

func TestParseStat(t *testing.T) {
	for _, comm := range []string{"sh", "", "a b", ")", "(", ") R 1 (", "((x)) ", "x)\n1 (y) S 2 3", "\x00\xff"} {
		want := Stat{PID: 4711, Comm: comm, State: 'S', PPID: 1, StartTime: 1<<63 + 5, Exiting: comm == "", BeforeExec: comm == ")"}
		got, err := ParseStat([]byte(statLine(want)))
		require.NoError(t, err, "%q", comm)
		assert.Equal(t, want, got)
	}
	line := statLine(Stat{PID: 1, Comm: "init", State: 'S', StartTime: 3})
	for _, bad := range []string{
		"", "\n", "1", "1 (", "1 (init", "1 (init)", "1 (init) ", "1 (init) S 0", ") (", " (x) S",
		strings.Join(strings.Fields(line)[:21], " "),
		strings.Replace(line, "1", "x", 1), strings.Replace(line, "1", "-1", 1), strings.Replace(line, " S ", " SS ", 1),
		strings.Replace(line, " 3 ", " -3 ", 1), strings.Replace(line, "1 ", "4294967296 ", 1),
	} {
		got, err := ParseStat([]byte(bad))
		require.Error(t, err, "%q", bad)
		assert.Zero(t, got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(statLine(Stat{PID: 1, Comm: "a) (b", State: 'R', StartTime: 9})))
	f.Add([]byte("0 () \xad 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"))
	f.Add([]byte("1 () S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStat(b)
		if err != nil {
			require.Zero(t, s)
			return
		}
		require.GreaterOrEqual(t, s.PID, 0)
		require.GreaterOrEqual(t, s.PPID, 0)
		again, err := ParseStat([]byte(statLine(s)))
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

func FuzzParseStatComm(f *testing.F) {
	f.Add("sh", 1, uint64(5))
	f.Add(") S 1 (", 70000, uint64(0))
	f.Fuzz(func(t *testing.T, comm string, pid int, start uint64) {
		want := Stat{PID: pid & (1<<31 - 1), Comm: comm, State: 'Z', PPID: 2, StartTime: start}
		got, err := ParseStat([]byte(statLine(want)))
		require.NoError(t, err)
		require.Equal(t, want, got, "no name can pass for other fields")
	})
}

func TestParseFDInfoPID(t *testing.T) {
	for text, want := range map[string]int{
		"pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1\nPid:\t4711\nNSpid:\t4711\n": 4711,
		"Pid:\t-1\n": -1,
		"Pid:\t0":    0,
	} {
		got, err := ParseFDInfoPID([]byte(text))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, bad := range []string{"", "pos:\t0\n", "NSpid:\t1\n", "Pid:\n", "Pid:\t-2\n", "Pid:\tx\n", "Pid:\t99999999999\n"} {
		_, err := ParseFDInfoPID([]byte(bad))
		assert.Error(t, err, "%q", bad)
	}
}

func FuzzParseFDInfoPID(f *testing.F) {
	f.Add([]byte("Pid:2170000000"))
	f.Add([]byte("flags:\t02\nPid:\t17\nNSpid:\t17\t1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pid, err := ParseFDInfoPID(b)
		if err != nil {
			require.Zero(t, pid)
			return
		}
		require.GreaterOrEqual(t, pid, -1)
		again, err := ParseFDInfoPID(fmt.Appendf(nil, "Pid:\t%d\n", pid))
		require.NoError(t, err)
		require.Equal(t, pid, again)
	})
}

func TestParseBootID(t *testing.T) {
	const id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	got, err := ParseBootID([]byte(id + "\n"))
	require.NoError(t, err)
	assert.Equal(t, id, got)
	for _, bad := range []string{"", "\n", id + "0", id[1:], strings.ToUpper(id), strings.ReplaceAll(id, "-", "0"),
		strings.ReplaceAll(id, "0", "-"), id + "\n\n", " " + id} {
		got, err := ParseBootID([]byte(bad))
		require.Error(t, err, "%q", bad)
		assert.Empty(t, got)
	}
}

func FuzzParseBootID(f *testing.F) {
	f.Add([]byte("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := ParseBootID(b)
		if err != nil {
			require.Empty(t, id)
			return
		}
		require.Len(t, id, 36)
		require.Equal(t, id, strings.TrimSuffix(string(b), "\n"))
	})
}
