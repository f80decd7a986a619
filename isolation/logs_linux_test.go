// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLogsOfSandbox(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	cfg.Logs = filepath.Join(t.TempDir(), "logs")
	h := must(isolation.Open(deadline(t), cfg))
	s := spec(t, "web", "count", "500")
	s.Logs = &logs.Config{MaxSize: 1024, MaxTotal: 1 << 20, Compress: true}
	box := create(t, h, s)
	require.NoError(t, box.Start(deadline(t)))
	require.NoError(t, h.Close()) // in the middle of it

	// Logs of nobody are garbage.
	require.NoError(t, os.MkdirAll(filepath.Join(cfg.Logs, "nobody"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Logs, "nobody", "stdout"), nil, 0o600))
	foreign := filepath.Join(cfg.Logs, "foreign", "data")
	require.NoError(t, os.MkdirAll(foreign, 0o700))
	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 2)
	assert.Equal(t, "nobody: removed: only its log was left", h.Recovered()[1].String())
	box = must(h.Sandbox(deadline(t), "web"))
	_, err := box.Wait(deadline(t))
	require.NoError(t, err)
	require.NoError(t, box.Logs().Finish())
	n := 0
	for line, err := range logs.Read(filepath.Join(cfg.Logs, "web"), logs.CRI) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("line %d", n), string(line.Text))
		n++
	}
	assert.Equal(t, 500, n)
	assert.Equal(t, uint64(500), box.Logs().Stats().Lines)
	require.NoError(t, box.Destroy(deadline(t)))
	assert.NoDirExists(t, filepath.Join(cfg.Logs, "web"))
	assert.DirExists(t, foreign)
}

// What is given to Start goes there; the rest is logged.
func TestLogsBesideFiles(t *testing.T) {
	h := open(t)
	s := spec(t, "web", "count", "2")
	s.Logs = &logs.Config{}
	box := create(t, h, s)
	out := run(t, box)
	line := make([]byte, 14)
	must(out.Read(line))
	assert.Equal(t, "line 0\n", string(line[:7]))
	must(box.Wait(deadline(t)))
	assert.Zero(t, box.Logs().Stats().Lines)
	s.ID, s.Logs = "bad", &logs.Config{Rate: -1}
	_, err := h.Create(deadline(t), s)
	require.ErrorIs(t, err, isolation.ErrInvalid)
	assert.Nil(t, create(t, h, spec(t, "plain", "wait")).Logs())
}

// A workload that blocks waits while there is no agent, and none of its lines is
// lost.
func TestLogsBlock(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	const lines = 8000
	s := spec(t, "web", "count", fmt.Sprint(lines), "stay")
	s.Logs = &logs.Config{Block: true, Backlog: 64 << 10}
	box := create(t, h, s)
	require.NoError(t, box.Start(deadline(t)))
	require.NoError(t, h.Close()) // in the middle of it
	h = openWith(t, cfg)
	box = must(h.Sandbox(deadline(t), "web"))
	n := 0
	for line, err := range box.Logs().Lines(deadline(t)) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("line %d", n), string(line.Text))
		if n++; n == lines {
			break
		}
	}
	require.Equal(t, lines, n)
	assert.Zero(t, box.Logs().Stats().DroppedBytes)
}

// Of the processes that share a state directory one keeps a log, and all can read it.
func TestLogsAreKeptByOne(t *testing.T) {
	cfg := config(t)
	cfg.Shared = true
	h := must(isolation.Open(deadline(t), cfg))
	s := spec(t, "web", "count", "100", "stay")
	s.Logs = &logs.Config{}
	box := create(t, h, s)
	other := openWith(t, cfg)
	second := must(other.Sandbox(deadline(t), "web"))
	assert.Nil(t, second.Logs())
	require.ErrorContains(t, second.Start(deadline(t)), "another process keeps its log")
	require.NoError(t, box.Start(deadline(t)))
	n := 0
	for line, err := range logs.Follow(deadline(t), second.LogDirectory(), logs.CRI) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("line %d", n), string(line.Text))
		if n++; n == 100 {
			break
		}
	}
	assert.Equal(t, 100, n)
	require.NoError(t, h.Close())
	third := must(isolation.Open(deadline(t), cfg))
	defer third.Close()
	assert.NotNil(t, must(third.Sandbox(deadline(t), "web")).Logs(), "which nobody keeps any more")
}
