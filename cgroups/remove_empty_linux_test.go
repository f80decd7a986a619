// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// removeEmpty leaves a group that is in use to Kill and Remove, also one that is
// in use in one tree only.
func TestRemoveEmpty(t *testing.T) {
	testutil.Require(t, testutil.Root)
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(30*time.Second))
	defer cancel()
	r := openRoot(t)
	if r.unified == nil {
		c := newGroup(t, r, 0)
		require.ErrorIs(t, c.removeEmpty(), syscall.EBUSY, "without a unified tree there is no telling")
		return
	}
	c := newGroup(t, r, 0)
	require.NoError(t, c.removeEmpty())
	c.hasGone(t)
	require.NoError(t, c.removeEmpty())

	c = newGroup(t, r, 0)
	spawn(t, c, "sleep 1000")
	require.ErrorIs(t, c.removeEmpty(), syscall.EBUSY)
	require.NoError(t, c.Kill(ctx))
	require.NoError(t, c.Remove(ctx))
	c.hasGone(t)

	for i := range c.places() {
		c = newGroup(t, r, 0)
		n := c.places()[i]
		s := start(t, "sleep 1000")
		require.NoError(t, n.add(t.Context(), s.Process.Pid))
		s.begin(t)
		require.ErrorIs(t, c.removeEmpty(), syscall.EBUSY, n.dir.Path())
		require.NoError(t, c.Kill(ctx), n.dir.Path())
		require.NoError(t, c.Remove(ctx), n.dir.Path())
		c.hasGone(t)
	}

	c = newGroup(t, r, 0)
	below(t, c, "sub")
	require.ErrorIs(t, c.removeEmpty(), syscall.EBUSY)
	require.NoError(t, c.Remove(ctx))
	c.hasGone(t)
}
