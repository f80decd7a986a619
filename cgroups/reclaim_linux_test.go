// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"math"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReclaim(t *testing.T) {
	testutil.Require(t, testutil.Root)
	const mib = 1 << 20
	c := newGroup(t, openRoot(t), ControllersOf(ControllerMemory))
	b := newBusy(t, c, 4*mib, 0, 24*mib, "cold")
	b.pages(t) // reads the file once
	taken, err := c.Reclaim(t.Context(), 8*mib)
	if errors.Is(err, ErrNotSupported) {
		if c.Mode() == Unified {
			testutil.Skip(t, "memory.reclaim", "%v", err)
		}
		testutil.Skip(t, testutil.Cgroup2("memory"), "%v", err)
	}
	require.NoError(t, err)
	assert.Greater(t, taken, uint64(4*mib))
	_, err = c.Reclaim(t.Context(), math.MaxInt64/2)
	require.NoError(t, err, "all that there is, and no more")
	assert.Zero(t, kills(t, c))
	b.pages(t) // it lives
	taken, err = c.Reclaim(t.Context(), 0)
	require.NoError(t, err)
	assert.Zero(t, taken)
}
