// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Processes that nobody reaps, as here the test does not before its end, keep no
// group (fault 26, zombies).
func TestDestroy(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(30*time.Second))
	defer cancel()
	r := openRoot(t)
	for _, processes := range []int{0, 1, 20} { // 20 are more than are held
		c := newGroup(t, r, 0)
		for range processes {
			spawn(t, c, "sleep 1000")
		}
		require.NoError(t, c.Destroy(ctx), processes)
		c.hasGone(t)
		require.NoError(t, c.Destroy(ctx), processes)
	}
}

// A process that has left the group is waited for no longer than the group.
func TestKillHoldsNobody(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(30*time.Second))
	defer cancel()
	r := openRoot(t)
	c, other := newGroup(t, r, 0), newGroupAt(t, r, testutil.CgroupName(t)+"-other", 0)
	s := start(t, "sleep 1000") // it waits to be told
	require.NoError(t, c.Add(ctx, s.Process.Pid))
	uni := c.unified()
	held := uni.hold()
	defer held.close()
	require.Len(t, held, 1)
	require.NoError(t, other.Add(ctx, s.Process.Pid))

	events, err := uni.dir.Open(fileEvents, os.O_RDONLY)
	require.NoError(t, err)
	defer events.Close()
	require.NoError(t, held.await(ctx, events), "pid "+strconv.Itoa(s.Process.Pid))
	pids, err := other.Procs(nil)
	require.NoError(t, err)
	assert.Contains(t, pids, s.Process.Pid, "still alive")
}
