// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroups

import (
	"os"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// BenchmarkUpdate changes four or five knobs at a time, to and fro: through
// Update, and as bare writes of the same files, held open and opened each time.
func BenchmarkUpdate(b *testing.B) {
	testutil.Require(b, testutil.Root)
	c := newGroup(b, openRoot(b), 0)
	var plans [2][]Change
	wants := [2]Resources{
		{CPU: CPU{Weight: WeightOf(200), Max: CPUs(1)}, Memory: Memory{Max: Bytes(1 << 30)}, PIDs: PIDs{Max: Count(100)}, CPUSet: CPUSet{CPUs: SetOf(0)}},
		{CPU: CPU{Weight: WeightOf(300), Max: CPUs(0.5)}, Memory: Memory{Max: Bytes(2 << 30)}, PIDs: PIDs{Max: Count(200)}, CPUSet: CPUSet{CPUs: SetOf(0, 1)}},
	}
	for i := range 4 {
		res, err := c.Update(b.Context(), wants[i%2])
		require.NoError(b, err)
		plans[i%2] = res.Changes
	}
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if res, err := c.Update(b.Context(), wants[i%2]); err != nil || len(res.Changes) != len(plans[0]) {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		_, err := c.Update(b.Context(), wants[1])
		require.NoError(b, err)
		for b.Loop() {
			if res, err := c.Update(b.Context(), wants[1]); err != nil || len(res.Changes) != 0 {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r := Resources{CPU: CPU{Max: Quota(time.Duration(10+i%2)*time.Millisecond, 100*time.Millisecond)}}
			if _, err := c.Update(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	for i := range wants { // as the first benchmark found it
		_, err := c.Update(b.Context(), wants[i])
		require.NoError(b, err)
	}
	b.Run("writes alone", func(b *testing.B) {
		t := filesOf(c)
		t.update = true
		defer t.close()
		for i := range plans {
			for j := range plans[i] {
				plans[i][j].in = t
			}
		}
		for i := 0; b.Loop(); i++ {
			if err := writeAll(b.Context(), plans[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("writes held", func(b *testing.B) {
		var files [2][]*kernfs.File
		for i := range plans {
			for _, ch := range plans[i] {
				f, err := c.node(ch.Controller).dir.Open(ch.File, os.O_RDWR)
				require.NoError(b, err)
				defer f.Close()
				files[i] = append(files[i], f)
			}
		}
		for i := 0; b.Loop(); i++ {
			for j, f := range files[i%2] {
				if err := f.Write(plans[i%2][j].New); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("writes opened", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			for _, ch := range plans[i%2] {
				if err := c.node(ch.Controller).dir.WriteFile(ch.File, ch.New); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
