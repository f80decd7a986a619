// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOnWrite holds that a kernel tells of every write to a knob, by another
// descriptor and through the mounted path, on each layout.
func TestOnWrite(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	top, _, ok := root.Where(cgroups.ControllerPIDs)
	if !ok {
		testutil.Skip(t, testutil.Cgroup2("pids"), "no hierarchy has it")
	}
	c, err := root.Create(testutil.CgroupName(t), 0)
	require.NoError(t, err)
	defer c.Close()
	defer func() { assert.NoError(t, c.Remove(context.Background())) }()
	e, err := NewEngine()
	require.NoError(t, err)
	defer e.Close()

	told := make(chan struct{}, 100)
	cancel, err := e.OnWrite(c, c.Controllers(), func() { told <- struct{}{} })
	require.NoError(t, err)
	write := func(file, data string) error {
		f, err := os.OpenFile(filepath.Join(top, c.Path(), file), os.O_WRONLY, 0) // truncating would be a write too
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteString(data)
		return err
	}
	await := func() {
		t.Helper()
		select {
		case <-told:
		case <-time.After(testutil.Patience(10 * time.Second)):
			require.Fail(t, "nobody told of a write")
		}
	}
	require.NoError(t, write("pids.max", "20"))
	await()
	_, err = c.Update(context.Background(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(30)}})
	require.NoError(t, err)
	await() // our own are told as well

	// What was refused, what is no knob, and reading are silent: the write
	// after them is the only one that is told.
	require.Error(t, write("pids.max", "nonsense"))
	require.Error(t, write("cgroup.procs", "nonsense"))
	_, err = c.Resources()
	require.NoError(t, err)
	require.NoError(t, write("pids.max", "40"))
	await()
	assert.Empty(t, told)

	cancel()
	cancel()
	require.NoError(t, write("pids.max", "50"))
	again, err := e.OnWrite(c, c.Controllers(), func() { told <- struct{}{} })
	require.NoError(t, err)
	defer again()
	require.NoError(t, write("pids.max", "60"))
	await()
	assert.Empty(t, told, "the first one is not told any more")
	require.NoError(t, e.Close())
	_, err = e.OnWrite(c, c.Controllers(), func() {})
	require.ErrorIs(t, err, os.ErrClosed)
}
