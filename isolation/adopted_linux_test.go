// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os/exec"
	"slices"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A number that belongs to another process by now is not taken for the one that
// was adopted.
func TestAdoptedPidReuse(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer func() { require.NoError(t, root.Close()) }()
	g, err := root.Create(testutil.CgroupName(t), cgroups.ControllersOf(cgroups.ControllerPIDs))
	require.NoError(t, err)
	defer func() {
		require.NoError(t, g.Kill(context.Background()))
		require.NoError(t, g.Remove(context.Background()))
		require.NoError(t, g.Close())
	}()
	var pids []int
	for range 2 {
		cmd := exec.Command("/bin/sh", "-c", "read x")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		defer func() {
			_ = in.Close()
			_ = cmd.Wait()
		}()
		require.NoError(t, g.Add(t.Context(), cmd.Process.Pid))
		pids = append(pids, cmd.Process.Pid)
	}
	slices.Sort(pids)
	since, err := linux.StartTime(pids[1])
	require.NoError(t, err)
	for _, tt := range []struct {
		since uint64
		want  int
	}{{since, pids[1]}, {since - 1, pids[0]}} {
		a := &adoption{saved: adoptedState{PID: pids[1], Since: tt.since}}
		pid, pidfd, err := a.next(g)
		require.NoError(t, err)
		assert.Equal(t, tt.want, pid)
		require.NoError(t, pidfd.Close())
	}
}
