// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strconv"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A container that somebody else started, from the shell.
func TestAdoptCommand(t *testing.T) {
	c := newCLI(t)
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	theirs, err := root.Create(testutil.CgroupName(t), cgroups.ControllersOf(cgroups.ControllerPIDs))
	require.NoError(t, err)
	sleep := exec.Command("/bin/sleep", "1000")
	require.NoError(t, sleep.Start())
	defer func() {
		require.NoError(t, theirs.Kill(t.Context()))
		_ = sleep.Wait()
		require.NoError(t, theirs.Remove(t.Context()))
		require.NoError(t, theirs.Close())
	}()
	require.NoError(t, theirs.Add(t.Context(), sleep.Process.Pid))
	pid := strconv.Itoa(sleep.Process.Pid)

	c.fails(exitUsage, "either --pid or --cgroup", "adopt", "db")
	c.fails(exitUsage, "either --pid or --cgroup", "adopt", "db", "--pid", pid, "--cgroup", theirs.Path())
	c.fails(exitUsage, "an element is", "adopt", "db", "--cgroup", "../x")
	c.fails(exitUsage, "only ASCII letters", "adopt", "../x", "--pid", pid)
	c.fails(exitFailed, "no such file", "adopt", "db", "--cgroup", theirs.Path()+"/none")

	var st isolation.Status
	c.json(&st, "adopt", "db", "--pid", pid, "--label", "app=db")
	assert.True(t, st.Adopted)
	assert.Equal(t, sleep.Process.Pid, st.PID)
	c.fails(exitFailed, "in charge of", "adopt", "other", "--cgroup", theirs.Path())
	assert.Contains(t, c.ok("list", "--label", "app=db"), "running, adopted")
	var u updated
	c.json(&u, "update", "db", "--pids-max", "30")
	assert.Len(t, u.Changes, 1)
	assert.Contains(t, c.ok("check", "db"), theirs.Path())
	c.ok("stat", "db")

	var r released
	c.json(&r, "release", "db", "--restore")
	assert.True(t, r.Restored)
	limits, err := theirs.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Max(), limits.PIDs.Max)
	c.fails(exitNotFound, "no such sandbox", "release", "db")

	c.ok("adopt", "db", "--cgroup", theirs.Path())
	c.ok("destroy", "db")
	pids, err := theirs.Procs(nil)
	require.NoError(t, err)
	assert.Equal(t, []int{sleep.Process.Pid}, pids, "it lives")
}
