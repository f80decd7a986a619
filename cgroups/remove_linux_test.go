// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the workload made below goes with the group (fault 27).
func TestRemoveBelow(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c, err := r.Create(testutil.CgroupName(t), 0)
	require.NoError(t, err)
	defer c.Close()
	for _, name := range []string{"a", "a/b", "a/b/c", "d", "d/\xff odd name"} {
		below(t, c, name)
	}
	depth := 60
	if testutil.Emulated() {
		depth = 10
	}
	for i := range depth {
		below(t, c, "deep"+strings.Repeat("/x", i))
	}
	require.NoError(t, c.Remove(t.Context()))
	c.hasGone(t)
}

// Groups beside, above and of the same name are left alone.
func TestRemoveOthers(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	parent := newGroup(t, r, 0)
	sibling := newGroupAt(t, r, parent.Path()+"/sibling", 0)
	c, err := r.Create(parent.Path()+"/c", 0)
	require.NoError(t, err)
	// Somebody removes it in one tree and makes another in its place.
	for _, n := range c.places() {
		removeRaw(t, n.in, c.Path())
		require.NoError(t, n.in.dir.Mkdir(c.Path(), 0o755))
		break
	}
	h := c.places()[0].in
	require.NoError(t, c.Remove(t.Context()))
	c.hasGone(t)
	there, err := h.dir.Has(c.Path())
	require.NoError(t, err)
	assert.True(t, there, "the other one of this name")
	removeRaw(t, h, c.Path())
	require.NoError(t, c.Close())
	for _, n := range append(sibling.places(), parent.places()...) {
		assert.False(t, n.gone())
	}
}

// Remove kills nobody: it waits, and says who is in the way (fault 26, late exits).
func TestRemoveBusy(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	below(t, c, "a")
	below(t, c, "b")
	s := spawn(t, c, "read x")
	moveBelow(t, c, "a", s.Process.Pid)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	err := c.Remove(ctx)
	cancel()
	var left *RemainingError
	require.ErrorAs(t, err, &left)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, left.Processes, 1)
	assert.Equal(t, s.Process.Pid, left.Processes[0].PID)
	assert.Len(t, left.Groups, 2*len(c.places()), "b is gone: %s", left.Groups)
	assert.Contains(t, err.Error(), c.Path()+"/a")
	require.NoError(t, s.Process.Signal(syscall.Signal(0)), "alive")

	done := make(chan error)
	go func() { done <- c.Remove(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("removed under a process: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	s.begin(t) // it reads a line and ends
	require.NoError(t, <-done)
	c.hasGone(t)
}

// The same where only v1 trees are, which announce nothing.
func TestRemoveBusyLegacy(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.LegacyTree)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	twin := legacyTwin(c)
	s := spawn(t, twin, "read x")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	require.ErrorIs(t, twin.Remove(ctx), context.DeadlineExceeded)
	cancel()
	done := make(chan error)
	go func() { done <- c.Remove(t.Context()) }()
	s.begin(t)
	require.NoError(t, <-done)
	c.hasGone(t)
}

func TestRemoveConcurrently(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c, err := r.Create(testutil.CgroupName(t), 0)
	require.NoError(t, err)
	below(t, c, "a")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { assert.NoError(t, c.Remove(t.Context())) })
	}
	wg.Wait()
	c.hasGone(t)
	require.NoError(t, c.Close())
}

// Whoever removes the group underneath, everything says so; to kill what is gone is
// a success (faults 28 and 37).
func TestGone(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c, err := r.Create(testutil.CgroupName(t), r.Controllers())
	require.NoError(t, err)
	s := start(t, "read x")
	for _, n := range c.places() {
		removeRaw(t, n.in, c.Path())
	}
	again := newGroupAt(t, r, c.Path(), r.Controllers())
	assert.NotEqual(t, c.ID(), again.ID())
	_, err = c.Procs(nil)
	require.ErrorIs(t, err, ErrGone)
	_, err = c.Populated()
	require.ErrorIs(t, err, ErrGone)
	_, err = c.Frozen()
	require.ErrorIs(t, err, ErrGone)
	_, err = c.Join()
	if r.Mode() != Unified {
		require.ErrorIs(t, err, ErrGone)
	}
	_, err = c.Labels()
	require.ErrorIs(t, err, ErrGone)
	require.ErrorIs(t, c.Add(t.Context(), s.Process.Pid), ErrGone)
	require.ErrorIs(t, c.Freeze(t.Context()), ErrGone)
	require.ErrorIs(t, c.Thaw(t.Context()), ErrGone)
	require.NoError(t, c.Kill(t.Context()), "nobody is left")
	require.NoError(t, c.Remove(t.Context()))
	for _, n := range again.places() {
		assert.False(t, n.gone(), "the new one of this path is another one")
	}
	require.NoError(t, c.Close())
	_, err = c.Procs(nil)
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = c.Join()
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, c.Add(t.Context(), s.Process.Pid), os.ErrClosed)
	require.ErrorIs(t, c.SetLabel("a", "b"), os.ErrClosed)
	// One that was under way when the group was removed, and found its files gone.
	err = c.main().failed(&FileError{Op: "read", Err: syscall.ENODEV})
	require.ErrorIs(t, err, os.ErrClosed)
	require.NotErrorIs(t, err, syscall.ENODEV)
}

func TestLabels(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	labels, err := c.Labels()
	require.NoError(t, err)
	assert.Empty(t, labels)
	want := map[string]string{"app": "web", "empty": "", "a key with é": strings.Repeat("x", maxLabelValue)}
	for k, v := range want {
		require.NoError(t, c.SetLabel(k, "old"))
		require.NoError(t, c.SetLabel(k, v))
	}
	for _, k := range []string{"", "a\x00", "a\nb", "\xff", strings.Repeat("k", maxLabelKey+1)} {
		require.ErrorIs(t, c.SetLabel(k, ""), ErrInvalid, "%q", k)
	}
	require.ErrorIs(t, c.SetLabel("k", strings.Repeat("x", maxLabelValue+1)), ErrInvalid)
	// What a workload can set does not count.
	if n := c.main(); n.in.v2 {
		require.NoError(t, n.dir.SetXattr(userLabels+"app", "forged"))
	}
	o, err := r.Open(c.Path())
	require.NoError(t, err)
	defer o.Close()
	labels, err = o.Labels()
	require.NoError(t, err)
	assert.Equal(t, want, labels)
	if r.Mode() != Unified {
		twin := legacyTwin(c)
		require.NoError(t, twin.SetLabel("v1", "too"))
		labels, err = twin.Labels()
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"v1": "too"}, labels)
	}
}

// Close may come while others use the group.
func TestCloseMeanwhile(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	for range 20 {
		o, err := r.Open(c.Path())
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					if _, err := o.Procs(nil); err != nil {
						assert.ErrorIs(t, err, os.ErrClosed)
						return
					}
				}
			})
		}
		wg.Go(func() { assert.NoError(t, o.Close()) })
		wg.Wait()
	}
}
