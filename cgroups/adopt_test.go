// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The kernel names groups from the root of the reader's cgroup namespace.
func TestLocate(t *testing.T) {
	for _, tt := range []struct {
		top, raw, rel string
		ok            bool
	}{
		{"/", "/", "", true},
		{"/", "/a/b", "a/b", true},
		{"/a", "/a/b", "b", true},
		{"/a", "/a", "", true},
		{"/a", "/ab", "", false},
		{"/", "/../a", "", false},                  // above what is mounted
		{"/..", "/../../a", "", false},             //
		{"/../..", "/../../a/b", "a/b", true},      // the whole tree, seen from two groups below
		{"/../..", "/../..", "", true},             //
		{"/../../a", "/../../a/b", "b", true},      // a part of it
		{"/../../a", "/../../b", "", false},        //
		{"/../../a", "/../b", "", false},           // perhaps, but nothing tells
		{"/..", "/..a", "", false},                 // a name, not a step: one below, and nobody to look for
		{"/", "/..a", "..a", true},                 //
		{"/../..", "/../beside", "", false},        // needs a process to look for
		{"/../..", "/", "", false},                 //
		{"/", "/a (deleted)", "a (deleted)", true}, // no such directory
	} {
		rel, ok := (&hierarchy{root: tt.top}).locate(tt.raw, 0)
		assert.Equal(t, tt.ok, ok, "%s in %s", tt.raw, tt.top)
		assert.Equal(t, tt.rel, rel, "%s in %s", tt.raw, tt.top)
	}
}

func TestBeneath(t *testing.T) {
	for _, tt := range []struct {
		dir, p string
		is     bool
	}{
		{"/a", "/a", true},
		{"/a", "/a/b", true},
		{"/a", "/ab", false},
		{"/a/b", "/a", false},
		{"/", "/a", true},
		{"/", "/../a", false},
		{"/..", "/../a", true},
		{"/..", "/a", true},
		{"/../a", "/b", false},
		{"/../..", "/../a", true},
	} {
		assert.Equal(t, tt.is, beneath(tt.dir, tt.p), "%s below %s", tt.p, tt.dir)
	}
}

func FuzzClimb(f *testing.F) {
	for _, p := range []string{"/", "/a", "/../a", "/../..", "/..a", "/../..a"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !strings.HasPrefix(p, "/") {
			return
		}
		up, rest := climb(p)
		require.True(t, strings.HasPrefix(rest, "/"))
		require.False(t, rest == "/.." || strings.HasPrefix(rest, "/../"))
		require.True(t, beneath(p, p))
		if again := strings.Repeat("/..", up) + rest; again != p {
			require.Equal(t, p+"/", again)
		}
	})
}

func TestOnly(t *testing.T) {
	disk, other := Device{8, 0}, Device{8, 16}
	found := Resources{
		CPU:    CPU{Weight: WeightOf(200), Max: NoQuota(), Burst: DurationOf(0)},
		Memory: Memory{Max: Bytes(1 << 20)},
		IO:     IO{Devices: []IODevice{{Device: disk, ReadBytes: Bytes(5), WriteBytes: Max()}}},
		Misc:   []Misc{{Name: "sev", Max: Max()}},
	}
	only, unknown := found.Only(Resources{})
	assert.True(t, only.IsZero())
	assert.Empty(t, unknown)

	only, unknown = found.Only(Resources{
		CPU:     CPU{Max: CPUs(1), Idle: On},
		Memory:  Memory{Max: Bytes(2 << 20), High: Bytes(1 << 20)},
		IO:      IO{Weight: WeightOf(5), Devices: []IODevice{{Device: disk, ReadBytes: Bytes(9)}, {Device: other, ReadOps: Count(3), Latency: DurationOf(time.Second)}}},
		Misc:    []Misc{{Name: "sev", Max: Count(1)}, {Name: "sgx_epc", Max: Count(1)}},
		RDMA:    []RDMA{{Device: "mlx5_0", Handles: Count(1)}},
		Devices: AllDevices(),
	})
	assert.Equal(t, Resources{
		CPU:    CPU{Max: NoQuota()},
		Memory: Memory{Max: Bytes(1 << 20)},
		IO: IO{Devices: []IODevice{
			{Device: disk, ReadBytes: Bytes(5)},
			{Device: other, ReadOps: Max(), Latency: DefaultDuration()},
		}},
		Misc: []Misc{{Name: "sev", Max: Max()}},
	}, only)
	assert.Equal(t, []string{"cpu.idle", "memory.high", "io.weight", "rdma of mlx5_0", "misc of sgx_epc", "devices"}, unknown)
}

// What takes an update back names the same knobs as the update.
func FuzzOnly(f *testing.F) {
	f.Add(uint64(1), uint64(2), true, uint16(3))
	f.Fuzz(func(t *testing.T, a, b uint64, on bool, w uint16) {
		found := Resources{CPU: CPU{Idle: SwitchOf(on)}, Memory: Memory{Max: Bytes(a), Swap: Max()}, PIDs: PIDs{Max: Count(b)}}
		named := Resources{CPU: CPU{Idle: On, Weight: WeightOf(w)}, Memory: Memory{Max: Bytes(b)}}
		only, unknown := found.Only(named)
		require.Equal(t, []string{"cpu.weight"}, unknown)
		require.Equal(t, Resources{CPU: CPU{Idle: found.CPU.Idle}, Memory: Memory{Max: found.Memory.Max}}, only)
		require.Equal(t, found, found.Merge(only))
	})
}
