// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// record writes the trace of a machine whose service works harder and harder
// while memory runs out.
func record(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	for n := range 60 {
		s := &elastic.Snapshot{
			Time: time.Unix(1_700_000_000+int64(n), 0).UTC(), At: time.Duration(n) * time.Second, Elapsed: time.Second,
			Machine: elastic.MachineUse{CPUs: 4, Memory: 16 << 30, Free: uint64(60-n) << 27},
			Sandboxes: []elastic.Use{
				{ID: "<batch>", Class: elastic.BestEffort, CPU: 2, Memory: 4 << 30, Growth: 1 << 28, Frozen: n > 55},
				{ID: "web", Class: elastic.LatencyCritical, CPU: float64(n) / 30, Memory: 1 << 30},
			},
		}
		s.Machine.CPU = 2 + float64(n)/30
		var made []elastic.Decision
		if n == 30 {
			made = append(made, elastic.Decision{At: s.At, State: elastic.Made, Correction: elastic.Correction{
				Policy: "hand", Sandbox: "<batch>", Rung: elastic.Freeze, Reason: "by hand",
			}})
		}
		require.NoError(t, elastic.WriteRecord(&b, elastic.Record{Snapshot: s, Decisions: made}))
	}
	path := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func TestReplay(t *testing.T) {
	trace := record(t)
	dir := t.TempDir()
	variants, page := filepath.Join(dir, "variants.json"), filepath.Join(dir, "page.html")
	require.NoError(t, os.WriteFile(variants, []byte(`{
		"bold": {"cpu-suppress": {"Share": 1}},
		"careful": {"cpu-suppress": {"Share": 0.5}, "memory-guard": {"NoKill": true}}
	}`), 0o600))
	var out bytes.Buffer
	require.NoError(t, replay(&out, trace, variants, page))
	lines := strings.Split(out.String(), "\n")
	for i, name := range []string{"VARIANT", "recorded", "bold", "careful"} {
		assert.True(t, strings.HasPrefix(lines[i], name), lines[i])
	}
	assert.Equal(t, "recorded: at 30 s hand: freeze <batch>: by hand", lines[4])
	assert.Contains(t, out.String(), "careful: at ")
	assert.NotContains(t, out.String(), "bold: at ", "it has no guard of memory")

	html, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, 3, strings.Count(string(html), "<svg"))
	assert.NotContains(t, string(html), "<batch>", "ids are escaped")

	var again bytes.Buffer
	require.NoError(t, replay(&again, trace, variants, ""))
	assert.Equal(t, out.String(), again.String(), "the same recording, the same decisions")
}

// Of networks the table tells, too, and traces of before there were any still replay.
func TestReplayNetworks(t *testing.T) {
	var b bytes.Buffer
	for n := range 20 {
		s := &elastic.Snapshot{
			At: time.Duration(n) * time.Second, Elapsed: time.Second, Machine: elastic.MachineUse{CPUs: 4, Memory: 16 << 30, Free: 8 << 30},
			Sandboxes: []elastic.Use{
				{ID: "batch", Class: elastic.BestEffort, Network: &elastic.NetworkUse{
					Links: []elastic.LinkUse{{Link: "eth0", Egress: elastic.Flow{Rate: 80e6}}},
				}},
				{ID: "web", Class: elastic.LatencyCritical},
			},
		}
		require.NoError(t, elastic.WriteRecord(&b, elastic.Record{Snapshot: s}))
	}
	dir := t.TempDir()
	trace, variants := filepath.Join(dir, "trace"), filepath.Join(dir, "variants.json")
	require.NoError(t, os.WriteFile(trace, b.Bytes(), 0o600))
	require.NoError(t, os.WriteFile(variants, []byte(`{"known": {"network-guard": {"Egress": 100e6}}, "half": {"network-guard": {"Egress": 50e6}}}`), 0o600))
	var out bytes.Buffer
	require.NoError(t, replay(&out, trace, variants, ""))
	lines := strings.Split(out.String(), "\n")
	assert.Contains(t, lines[1], "anything")
	assert.Contains(t, lines[2], "47.5 Mbit/s, 100% of the time")
	assert.Contains(t, lines[3], "95.0 Mbit/s, 100% of the time")
}

func TestReplayRefuses(t *testing.T) {
	trace := record(t)
	for _, bad := range []string{`[]`, `{"a": {"no-such": {}}}`, `{"a": {"cpu-suppress": {"Sharee": 1}}}`} {
		path := filepath.Join(t.TempDir(), "variants")
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		require.Error(t, replay(&bytes.Buffer{}, trace, path, ""), bad)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.ErrorContains(t, replay(&bytes.Buffer{}, empty, "", ""), "no record")
}
