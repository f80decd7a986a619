// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openRoot opens this machine's root and closes it after the test.
func openRoot(tb testing.TB) *Root {
	tb.Helper()
	r, err := Open("")
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, r.Close()) })
	return r
}

// newGroup makes a group for the test and removes it afterwards.
func newGroup(tb testing.TB, r *Root, want Controllers) *Cgroup {
	tb.Helper()
	c, err := r.Create(testutil.CgroupName(tb), want)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, c.Remove(tb.Context()))
		require.NoError(tb, c.Close())
	})
	return c
}

func TestCreateRemove(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	t.Logf("%s: %s", r.Mode(), r.Controllers())
	name := testutil.CgroupName(t)
	c, err := r.Create(name, 0)
	require.NoError(t, err)
	assert.Equal(t, name, c.Path())
	t.Logf("%s", c.Controllers())
	for _, n := range c.places() {
		assert.DirExists(t, filepath.Join(n.in.mountPoint(), name))
	}
	_, err = r.Create(name, 0)
	require.ErrorIs(t, err, os.ErrExist)
	j, err := c.Join()
	require.NoError(t, err)
	t.Logf("%+v", j)
	require.NoError(t, c.Remove(t.Context()))
	require.NoError(t, c.Close())
}
