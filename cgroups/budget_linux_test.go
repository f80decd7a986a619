// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"sync"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func descriptors(tb testing.TB) int {
	tb.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(tb, err)
	return len(list)
}

// Without a budget everything works as with one, and nothing is held.
func TestBudget(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	full := r.budget.left.Load()
	assert.Positive(t, full)
	c := newGroup(t, r, 0)

	var rich, poor Stats
	before := descriptors(t)
	require.NoError(t, c.Stat(&rich))
	held := descriptors(t) - before
	assert.Positive(t, held)
	assert.Equal(t, full-int64(held), r.budget.left.Load())

	d := newGroup(t, r, 0)
	r.budget.left.Store(int64(held - 1))
	before = descriptors(t)
	for range 3 {
		require.NoError(t, d.Stat(&poor))
		assert.Equal(t, before, descriptors(t))
		assert.Equal(t, rich.Has, poor.Has)
		assert.Len(t, poor.HugeTLB, len(rich.HugeTLB))
		assert.Equal(t, rich.CPUPressure.IsZero(), poor.CPUPressure.IsZero())
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var st Stats
			for range 50 {
				if !assert.NoError(t, d.Stat(&st)) || !assert.Equal(t, rich.Has, st.Has) ||
					!assert.Len(t, st.HugeTLB, len(rich.HugeTLB)) {
					return
				}
			}
		})
	}
	group.Wait()
	assert.Equal(t, before, descriptors(t))

	r.budget.left.Store(0)
	if c.Controllers().Has(ControllerPIDs) {
		_, err := d.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(10)}})
		require.NoError(t, err)
		assert.Equal(t, before, descriptors(t))
	}
	assert.Zero(t, r.budget.left.Load())
	require.NoError(t, c.stats.close(&r.budget))
	assert.Equal(t, int64(held), r.budget.left.Load(), "a closed group gives back")
	require.NoError(t, d.Stat(&poor))
	assert.Equal(t, before, descriptors(t), "now there is room")
	assert.Zero(t, r.budget.left.Load())
}
