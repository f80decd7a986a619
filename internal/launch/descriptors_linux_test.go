// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

// The child gives up what it is not given before it does anything that could
// show in the caller's descriptors, whatever their numbers.
func TestDescriptorsStayOurs(t *testing.T) {
	testutil.CheckLeaks(t)
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	for range 300 {
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		open = append(open, f)
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	open = append(open, r)
	before, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	last := int(open[299].Fd())

	for _, files := range [][]int{nil, {-1, -1, -1}, {last, int(w.Fd()), 2}, {2, 1, 0, -1, last}} {
		s := Spec{Files: files, Writes: []Write{{Path: "/proc/self/oom_score_adj", Data: "1000"}}, Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}}}
		p := program(t, s, "exit", "0")
		c, err := p.Start(context.Background())
		require.NoError(t, err)
		status, err := c.Wait()
		require.NoError(t, err)
		require.NoError(t, c.PIDFD.Close())
		assert.Equal(t, 0, status.Code)
		after, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		assert.Len(t, after, len(before))
	}
	// Had the child kept the pipe, or we a copy, there would be no end.
	require.NoError(t, w.Close())
	n, err := r.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)
}
