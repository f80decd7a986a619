// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"runtime"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A group is read again only once somebody below the group above has stalled.
func TestAbove(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.PSI)
	root := openRoot(t)
	parent := create(t, root)
	child := func(name string) *cgroups.Cgroup {
		cg, err := root.Create(parent.Path()+"/"+name, 0)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, cg.Close()) }) // the parent's removal takes it along
		return cg
	}
	e := newEngine(t)
	e.Above(parent)
	const never = time.Minute
	w := watch(t, e, WatchConfig{Cgroup: child("a"), Pressure: []Threshold{{Resource: cgroups.PressureCPU, Stall: 10 * time.Second, Window: 10 * time.Second}}})
	w.mu.Lock()
	g := w.gauges[0]
	e.schedule(&g.beat, 0) // this test is the engine's goroutine
	w.mu.Unlock()
	tick := func() time.Duration {
		e.above.tick++
		g.tick()
		w.mu.Lock()
		defer w.mu.Unlock()
		e.schedule(&g.beat, 0)
		return g.pressure.Some.Total
	}
	tick()
	g.pressure.Some.Total = never
	assert.Equal(t, never, tick(), "nobody has stalled, so it was not read")

	other := child("b")
	for range runtime.NumCPU() + 2 {
		run(t, other, "spin")
	}
	require.Eventually(t, func() bool { return tick() != never }, testutil.Patience(5*time.Second), 10*time.Millisecond, "somebody below has stalled")

	outside := create(t, root)
	w = watch(t, e, WatchConfig{Cgroup: outside, Pressure: []Threshold{{Resource: cgroups.PressureCPU, Stall: time.Second, Window: time.Second}}})
	assert.False(t, w.gauges[0].below)
}
