// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
)

// TestDriftAfterCrash: an update whose process died in the middle does not hide
// drift for ever.
func TestDriftAfterCrash(t *testing.T) {
	for _, shared := range []bool{false, true} {
		testutil.Require(t, testutil.Root)
		testutil.CheckLeaks(t)
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
		defer cancel()
		cfg := Config{Root: t.TempDir() + "/state", Parent: testutil.CgroupName(t), Shared: shared}
		h, err := Open(ctx, cfg)
		require.NoError(t, err)
		top, _, ok := h.Root().Where(cgroups.ControllerPIDs)
		if !ok {
			testutil.Skip(t, testutil.Cgroup2("pids"), "no hierarchy has it")
		}
		limit := cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}}
		s, err := h.Create(ctx, Spec{ID: "web", Process: Process{Args: []string{"/bin/true"}}, Resources: limit})
		require.NoError(t, err)
		require.NoError(t, s.c.record.add(entry{Update: &cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}}}))
		require.NoError(t, os.WriteFile(filepath.Join(top, s.Cgroup().Path(), "pids.max"), []byte("60"), 0))
		_, _, err = s.lookForDrift(false)
		require.ErrorIs(t, err, errBusy, "it may be going on")
		require.NoError(t, h.Close())

		h, err = Open(ctx, cfg)
		require.NoError(t, err)
		s, err = h.Sandbox(ctx, "web")
		require.NoError(t, err)
		found, _, err := s.lookInTurn(ctx)
		require.NoError(t, err)
		require.Empty(t, found, "it was taken back")
		require.NoError(t, os.WriteFile(filepath.Join(top, s.Cgroup().Path(), "pids.max"), []byte("61"), 0))
		found, _, err = s.lookInTurn(ctx)
		require.NoError(t, err)
		require.Len(t, found, 1)
		assert.Equal(t, "61", found[0].Found)
		require.NoError(t, s.reapply(ctx))
		found, _, err = s.lookInTurn(ctx)
		require.NoError(t, err)
		assert.Empty(t, found)
		require.NoError(t, s.Destroy(ctx))
		require.NoError(t, h.Remove(ctx))
		require.NoError(t, h.Close())
	}
}
