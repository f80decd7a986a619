// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A group below another is in the same trees, and has limits of its own wherever the
// kernel can do that.
func TestCreateBelow(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	parent := newGroup(t, r, has(t, r, ControllerPIDs))
	spawn(t, parent, "read x")
	c, err := parent.CreateBelow(t.Context(), "a", Resources{})
	require.NoError(t, err)
	assert.Equal(t, parent.Path()+"/a", c.Path())
	assert.Len(t, c.places(), len(parent.places()))
	s := spawn(t, c, "read x")
	assert.Equal(t, []int{s.Process.Pid}, procs(t, c), "beside the processes of the group above")
	_, err = parent.CreateBelow(t.Context(), "a", Resources{})
	require.ErrorIs(t, err, os.ErrExist)
	for _, name := range []string{"", "..", "a/b", "cgroup.procs", "x\n"} {
		_, err = parent.CreateBelow(t.Context(), name, Resources{})
		require.ErrorIs(t, err, ErrInvalid, "%q", name)
	}

	limits := Resources{PIDs: PIDs{Max: Count(7)}}
	limited, err := parent.CreateBelow(t.Context(), "b", limits)
	if _, version, _ := r.Where(ControllerPIDs); version == 2 {
		var internal *InternalProcessError
		require.ErrorAs(t, err, &internal)
		there, err := parent.unified().dir.Has("b")
		require.NoError(t, err)
		assert.False(t, there)
		require.NoError(t, parent.Kill(t.Context()))
		limited, err = parent.CreateBelow(t.Context(), "b", limits)
		require.NoError(t, err)
	} else {
		require.NoError(t, err)
	}
	got, err := limited.Resources(ControllerPIDs)
	require.NoError(t, err)
	assert.Equal(t, limits, got)
	require.NoError(t, limited.Close())
	require.NoError(t, c.Destroy(t.Context()))
	require.NoError(t, c.Close())

	alone := newGroupAt(t, r, parent.Path()+"-alone", ControllersOf(ControllerCPU))
	below, err := alone.CreateBelow(t.Context(), "a", limits)
	if _, version, _ := r.Where(ControllerPIDs); version == 1 {
		require.ErrorIs(t, err, ErrNotSupported)
		return
	}
	require.NoError(t, err)
	require.NoError(t, below.Close())
}
