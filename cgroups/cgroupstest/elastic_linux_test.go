// SPDX-License-Identifier: Apache-2.0

package cgroupstest_test

import (
	"context"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestElastic watches a group of a fake: pressure is sampled, counters and the
// group's end are told.
func TestElastic(t *testing.T) {
	testutil.CheckLeaks(t)
	for name, layout := range map[string]cgroupstest.Layout{"v2": cgroupstest.V2, "hybrid": cgroupstest.Hybrid} {
		t.Run(name, func(t *testing.T) {
			fake := cgroupstest.New(t, layout)
			web, err := fake.Root().Create("web", 0)
			require.NoError(t, err)
			defer web.Close()
			fake.Start("web")
			_, err = web.Update(t.Context(), cgroups.Resources{
				Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20)}, PIDs: cgroups.PIDs{Max: cgroups.Count(1)},
			})
			require.NoError(t, err)
			e, err := elastic.NewEngine()
			require.NoError(t, err)
			defer e.Close()
			w, err := e.Watch(elastic.WatchConfig{
				Cgroup: web, Memory: true, PIDs: true, Populated: true,
				Pressure: []elastic.Threshold{{Resource: cgroups.PressureMemory, Stall: 100 * time.Millisecond, Window: time.Second}},
			})
			require.NoError(t, err)
			defer w.Close()

			var seen []elastic.Event
			until := func(ok func(elastic.Event) bool) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(20*time.Second))
				defer cancel()
				for {
					ev, err := w.Next(ctx)
					require.NoError(t, err, "after %v", seen)
					if seen = append(seen, ev); ok(ev) {
						return
					}
				}
			}
			// Sampling takes differences, so the stall comes a little at a time.
			stalls := make(chan struct{})
			go func() {
				defer close(stalls)
				for range 40 {
					fake.AddStall("web", cgroups.PressureMemory, 50*time.Millisecond, 0)
					time.Sleep(25 * time.Millisecond)
				}
			}()
			until(func(ev elastic.Event) bool {
				p, is := ev.(elastic.Pressure)
				return is && p.Resource == cgroups.PressureMemory
			})
			<-stalls
			_, err = fake.TryStart("web")
			require.Error(t, err)
			until(func(ev elastic.Event) bool { _, is := ev.(elastic.LimitHit); return is })
			fake.SetUsage("web", 100<<20)
			until(func(ev elastic.Event) bool { _, is := ev.(elastic.OOM); return is })
			require.NoError(t, web.Remove(t.Context()))
			until(func(ev elastic.Event) bool { _, is := ev.(elastic.Gone); return is })
			populated := 0
			for _, ev := range seen {
				if p, is := ev.(elastic.Populated); is && !p.Populated {
					populated++
				}
			}
			assert.Equal(t, 1, populated, "%v", seen)
		})
	}
}

// TestTrigger fires a trigger of a group and one of the machine.
func TestTrigger(t *testing.T) {
	testutil.CheckLeaks(t)
	fake := cgroupstest.NewOn(t, cgroupstest.V2, cgroupstest.Machine{Privileged: true})
	web, err := fake.Root().Create("web", 0)
	require.NoError(t, err)
	defer web.Close()
	e, err := elastic.NewEngine()
	require.NoError(t, err)
	defer e.Close()
	memory := []elastic.Threshold{{Resource: cgroups.PressureMemory, Stall: 100 * time.Millisecond, Window: time.Second}}
	one, err := e.Watch(elastic.WatchConfig{Cgroup: web, Pressure: memory})
	require.NoError(t, err)
	defer one.Close()
	all, err := e.Watch(elastic.WatchConfig{Root: fake.Root(), Pressure: memory})
	require.NoError(t, err)
	defer all.Close()
	fake.AddStall("web", cgroups.PressureMemory, 200*time.Millisecond, 0)
	for _, w := range []*elastic.Watch{one, all} {
		ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(20*time.Second))
		defer cancel()
		ev, err := w.Next(ctx)
		require.NoError(t, err)
		assert.IsType(t, elastic.Pressure{}, ev)
	}
}
