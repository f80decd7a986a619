// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"embed"
	"encoding/json"
	"flag"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The trees are the files of a group under load (CPU quota 20%, memory limit
// 16 MiB, 24 MiB used, 4 MiB written), as these kernels showed them.
//
//go:embed testdata/v1 testdata/v2
var trees embed.FS

var updateGolden = flag.Bool("update", false, "write what the scanners make of the captured trees")

// capturedTree reads "-- name --" sections.
func capturedTree(tb testing.TB, name string) map[string][]byte {
	tb.Helper()
	b, err := trees.ReadFile("testdata/" + name + ".txt")
	require.NoError(tb, err)
	files := map[string][]byte{}
	file := ""
	for line := range strings.Lines(string(b)) {
		if f, ok := strings.CutPrefix(line, "-- "); ok {
			file = strings.TrimSuffix(f, " --\n")
			files[file] = []byte{}
			continue
		}
		files[file] = append(files[file], line...)
	}
	return files
}

// scanTree does what Stat and Events do, with files from a map.
func scanTree(tb testing.TB, files map[string][]byte, v2 bool) (s Stats, e Events) {
	tb.Helper()
	for f := range numStatFiles {
		row := &statFiles[f]
		name := row.name
		switch {
		case row.on == onV1 && v2, row.on == onV2 && !v2, f == fileCPUStatUnified && !v2:
			continue
		case row.on == onUnified && !v2:
			name = "unified/" + name
		}
		text, ok := files[name]
		if !ok {
			continue
		}
		if row.use&inStat != 0 {
			require.NoError(tb, s.scan(f, text), name)
		}
		if row.use&inEvents != 0 {
			require.NoError(tb, e.scan(f, text), name)
		}
	}
	names := hugeNames
	if !v2 {
		names = hugeNamesLegacy
	}
	for _, size := range []uint64{2 << 20, 1 << 30} {
		h := HugeTLBStats{PageSize: size}
		for i, name := range names {
			text, ok := files["hugetlb."+hugePageName(size)+"."+name]
			if ok {
				require.NoError(tb, h.scan(i, v2, text))
			}
		}
		s.HugeTLB = append(s.HugeTLB, h)
	}
	prefix := ""
	if !v2 {
		prefix = "unified/"
	}
	require.NoError(tb, s.CPUPressure.scan(files[prefix+"cpu.pressure"]))
	require.NoError(tb, s.MemoryPressure.scan(files[prefix+"memory.pressure"]))
	require.NoError(tb, s.IOPressure.scan(files[prefix+"io.pressure"]))
	s.IO.sum()
	return s, e
}

func TestCapturedTrees(t *testing.T) {
	for _, name := range []string{"v1/6.1", "v1/6.18", "v2/5.10", "v2/6.1", "v2/6.12"} {
		t.Run(name, func(t *testing.T) {
			var got struct {
				Stats  Stats  `json:"stats"`
				Events Events `json:"events"`
			}
			got.Stats, got.Events = scanTree(t, capturedTree(t, name), path.Dir(name) == "v2")
			text, err := json.MarshalIndent(got, "", "\t")
			require.NoError(t, err)
			golden := "testdata/" + name + ".json"
			if *updateGolden {
				require.NoError(t, os.WriteFile(golden, append(text, '\n'), 0o644))
			}
			want, err := trees.ReadFile(golden)
			require.NoError(t, err)
			assert.JSONEq(t, string(want), string(text))
		})
	}
}

func TestStatsJSONRoundTrip(t *testing.T) {
	s, e := scanTree(t, capturedTree(t, "v2/6.12"), true)
	s.Has = ControllersOf(ControllerCPU, ControllerIO)
	b, err := json.Marshal(s)
	require.NoError(t, err)
	var back Stats
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, s, back)

	b, err = json.Marshal(e)
	require.NoError(t, err)
	var events Events
	require.NoError(t, json.Unmarshal(b, &events))
	assert.Equal(t, e, events)

	b, err = json.Marshal(Stats{})
	require.NoError(t, err)
	assert.JSONEq(t, `{"has":""}`, string(b), "what is absent is not written")
}

func TestScanReadings(t *testing.T) {
	cases := []struct {
		file statFile
		text string
		got  func(s *Stats) any
		want any
	}{
		{fileMemoryCurrent, "0\n", func(s *Stats) any { return s.Memory.Current }, ReadingOf[uint64](0)},
		{fileMemoryCurrent, "18446744073709551615\n", func(s *Stats) any { return s.Memory.Current }, ReadingOf[uint64](1<<64 - 1)},
		{fileMemoryMax, "max\n", func(s *Stats) any { return s.Memory.Max }, Max()},
		{fileMemoryMax, "4096\n", func(s *Stats) any { return s.Memory.Max }, Bytes(4096)},
		{fileMemoryLimitLegacy, "9223372036854771712\n", func(s *Stats) any { return s.Memory.Max }, Max()},                // 4 KiB pages
		{fileMemoryLimitLegacy, "9223372036854710272\n", func(s *Stats) any { return s.Memory.Max }, Max()},                // 64 KiB pages
		{fileMemoryLimitLegacy, "9223372036854644736\n", func(s *Stats) any { return s.Memory.Max }, Bytes(1<<63 - 2<<16)}, // a limit after all
		{fileCPUStatUnified, "usage_usec 7\nnice_usec 1\n", func(s *Stats) any { return s.CPU.Usage }, ReadingOf(7 * time.Microsecond)},
		{fileCPUStatUnified, "usage_usec 7\n", func(s *Stats) any { return s.CPU.Throttled }, Reading[uint64]{}},
		{fileCPUAcctUsage, "123456789\n", func(s *Stats) any { return s.CPU.Usage }, ReadingOf(123456789 * time.Nanosecond)},
		{fileCPUAcctStat, "user 3\nsystem 5\n", func(s *Stats) any { return s.CPU.System }, ReadingOf(50 * time.Millisecond)},
		{fileMemoryStat, "anon 1\nfuture_key what ever\nfile 2\n", func(s *Stats) any { return s.Memory.File }, ReadingOf[uint64](2)},
		{fileMemoryStatLegacy, "rss 1\ntotal_rss 3\n", func(s *Stats) any { return s.Memory.Anon }, ReadingOf[uint64](3)},
		{fileRDMACurrent, "mlx4_0 hca_handle=2 hca_object=2000\n", func(s *Stats) any { return s.RDMA },
			[]RDMAStats{{Device: "mlx4_0", Handles: ReadingOf[uint64](2), Objects: ReadingOf[uint64](2000)}}},
		{fileMiscCurrent, "sev 3\nsev_es 0\n", func(s *Stats) any { return s.Misc },
			[]MiscStats{{Name: "sev", Current: ReadingOf[uint64](3)}, {Name: "sev_es", Current: ReadingOf[uint64](0)}}},
	}
	for _, c := range cases {
		var s Stats
		require.NoError(t, s.scan(c.file, []byte(c.text)), c.text)
		assert.Equal(t, c.want, c.got(&s), c.text)
	}
}

func TestScanMiscEvents(t *testing.T) {
	s := Stats{Misc: []MiscStats{{Name: "sev"}, {Name: "sgx"}}}
	require.NoError(t, s.scan(fileMiscEvents, []byte("sev.max 0\nsgx.max 2\nother.max 3\nsgx.low 9\n")))
	assert.Equal(t, []MiscStats{
		{Name: "sev", Failures: ReadingOf[uint64](0)}, {Name: "sgx", Failures: ReadingOf[uint64](2)},
	}, s.Misc)
}

func TestScanMemsw(t *testing.T) {
	const none = "9223372036854771712\n"
	for _, c := range []struct {
		memory, memsw string
		want          Limit
	}{
		{"1000\n", "1500\n", Bytes(500)},
		{"1000\n", "1000\n", Bytes(0)},
		{"1000\n", none, Max()},
		{none, none, Max()},
		{none, "1500\n", Limit{}},      // swap alone is not limited to any number
		{"1500\n", "1000\n", Bytes(0)}, // an update in between
	} {
		var s Stats
		require.NoError(t, s.scan(fileMemoryLimitLegacy, []byte(c.memory)))
		require.NoError(t, s.scan(fileMemoryMemswLegacy, []byte(c.memsw)))
		assert.Equal(t, c.want, s.Memory.SwapMax, "%q %q", c.memory, c.memsw)
	}
}

// What a kernel cannot mean is an error, never a 0 (fault 48).
func TestScanRefuses(t *testing.T) {
	for _, c := range []struct {
		file statFile
		text string
	}{
		{fileMemoryCurrent, ""},
		{fileMemoryCurrent, "-1\n"},
		{fileMemoryCurrent, "max\n"},
		{fileMemoryCurrent, "1 2\n"},
		{fileMemoryCurrent, "18446744073709551616\n"},
		{fileMemoryMax, "unlimited\n"},
		{fileMemoryStat, "anon -4096\n"},
		{fileMemoryStat, "anon\n"},
		{fileMemoryStatLegacy, "total_rss x\n"},
		{fileMemoryEvents, "oom_kill\n"},
		{fileMemoryOOMLegacy, "oom_kill no\n"},
		{fileCPUStatUnified, "usage_usec 9223372036854775807\n"}, // no longer fits in nanoseconds
		{fileCPUAcctStat, "user 1.5\n"},
		{fileIOStat, "8:0 rbytes=\n"},
		{fileIOBytesLegacy, "8:0 Read x\n"},
		{filePIDsEvents, "max max\n"},
		{fileRDMACurrent, "mlx4_0 hca_handle=max\n"},
		{fileMiscCurrent, "sev\n"},
	} {
		var s Stats
		assert.Error(t, s.scan(c.file, []byte(c.text)), "%s %q", fileName(c.file), c.text)
	}
	var e Events
	assert.Error(t, e.scan(fileCgroupEvents, []byte("populated 2\n")))
	assert.Error(t, e.scan(fileMemorySwapEvents, []byte("fail -1\n")))
}

func TestScanIO(t *testing.T) {
	n := ReadingOf[uint64]
	var s IOStats
	require.NoError(t, s.scan([]byte("8:16 8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n"+
		"(unknown) rbytes=100\n253:1 rbytes=10 wbytes=20 rios=30 wios=40\n259:0 \n")))
	s.sum()
	assert.Equal(t, IOStats{
		Total: IOCounters{n(11), n(22), n(5), n(33), n(44), n(6)},
		Devices: []IODeviceStats{
			{Device{8, 0}, IOCounters{n(1), n(2), n(5), n(3), n(4), n(6)}, ReadingOf(7 * time.Microsecond)},
			{Device: Device{253, 1}, IOCounters: IOCounters{ReadBytes: n(10), WriteBytes: n(20), ReadOps: n(30), WriteOps: n(40)}},
		},
	}, s)

	s = IOStats{}
	require.NoError(t, s.scanLegacy([]byte("8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 0\n8:0 Discard 4\n8:0 Total 7\nTotal 7\n"), false))
	require.NoError(t, s.scanLegacy([]byte("8:16 Read 9\n8:0 Read 5\n8:0 Write 6\nTotal 11\n"), true))
	s.sum()
	assert.Equal(t, IOStats{
		Total: IOCounters{n(1), n(2), n(4), n(14), n(6), n(0)},
		Devices: []IODeviceStats{
			{Device: Device{8, 0}, IOCounters: IOCounters{n(1), n(2), n(4), n(5), n(6), Reading[uint64]{}}},
			{Device: Device{8, 16}, IOCounters: IOCounters{ReadOps: n(9)}},
		},
	}, s)
}

// Values that are filled again keep nothing of the last group but their room.
func TestStatsReset(t *testing.T) {
	var s Stats
	text := []byte("8:0 rbytes=1\n8:16 rbytes=2\n")
	require.NoError(t, s.scan(fileIOStat, text))
	require.NoError(t, s.scan(fileRDMACurrent, []byte("mlx4_0 hca_handle=2\n")))
	rdma := []byte("mlx4_0 hca_object=3\n")
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		s.reset()
		_ = s.scan(fileIOStat, text)
		_ = s.scan(fileRDMACurrent, rdma)
	}))
	s.reset()
	require.NoError(t, s.scan(fileIOStat, []byte("9:9 wbytes=7\n")))
	s.IO.sum()
	assert.Equal(t, []IODeviceStats{{Device: Device{9, 9}, IOCounters: IOCounters{WriteBytes: ReadingOf[uint64](7)}}}, s.IO.Devices)
	assert.Equal(t, ReadingOf[uint64](0), s.IO.Total.ReadBytes)
	assert.Empty(t, s.RDMA)
}
