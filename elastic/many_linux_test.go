// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Five thousand triggers of the kernel are one goroutine and one thread, and they
// tell. An emulated kernel opens fewer: it takes a second for a hundred.
func TestManyTriggers(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.PSI, testutil.SysResource)
	const each = 50
	groups := 100
	if testutil.Emulated() {
		groups = 20
	}
	moreFiles(t, uint64(groups*each+2000))
	root := openRoot(t)
	parent := create(t, root, cgroups.ControllerPIDs)
	e := newEngine(t)
	before, threads := runtime.NumGoroutine(), entries(t, "/proc/self/task")
	var watches []*Watch
	var last *cgroups.Cgroup
	for i := range groups {
		cg, err := root.Create(fmt.Sprintf("%s/%d", parent.Path(), i), cgroups.ControllersOf(cgroups.ControllerPIDs))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, cg.Close()) }) // the parent's removal takes it along
		last = cg
		cfg := WatchConfig{Cgroup: cg}
		for n := range each {
			r := []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO}[n%3]
			cfg.Pressure = append(cfg.Pressure, Threshold{Resource: r, Stall: time.Duration(100+n) * ms, Window: time.Second})
		}
		w, err := e.Watch(cfg)
		require.NoError(t, err)
		watches = append(watches, w)
	}
	triggers := 0
	for _, w := range watches {
		for _, g := range w.gauges {
			for _, l := range g.lines {
				if l.trigger != nil {
					triggers++
				}
			}
		}
	}
	assert.Equal(t, groups*each, triggers)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+1)
	// The runtime makes threads as it pleases, but none for a trigger.
	assert.LessOrEqual(t, entries(t, "/proc/self/task"), threads+8)

	for range runtime.NumCPU() + 2 {
		run(t, last, "spin")
	}
	// A trigger has the other thresholds looked at as well.
	ev := until(t, watches[len(watches)-1], func(p Pressure) bool { return p.Source == Trigger })
	assert.True(t, ev.Rising)
	assert.Equal(t, cgroups.PressureCPU, ev.Threshold.Resource)

	// The kernel waits for a grace period with each trigger that it ends; those of
	// several watches may share one.
	var closing sync.WaitGroup
	for _, w := range watches {
		closing.Go(func() { assert.NoError(t, w.Close()) })
	}
	closing.Wait()
}

// moreFiles lets the process have n descriptors.
func moreFiles(t testing.TB, n uint64) {
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	if old.Cur >= n {
		return
	}
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: max(n, old.Max)}))
	t.Cleanup(func() { assert.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) })
}

func entries(t testing.TB, dir string) int {
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	return len(list)
}
