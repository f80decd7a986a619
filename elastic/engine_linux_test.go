// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"io"
	"math"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const memoryPressure = cgroups.PressureMemory

func TestSampledPressure(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	th := memory(100*ms, 500*ms, 0)
	w := watchFake(t, e, f, WatchConfig{Pressure: []Threshold{th}})

	f.set(func() { f.growing[memoryPressure] = time.Now() })
	ev := nextAs[Pressure](t, w)
	assert.True(t, ev.Rising)
	assert.Equal(t, th, ev.Threshold)
	assert.GreaterOrEqual(t, ev.Stalled, th.Stall)
	assert.LessOrEqual(t, ev.Stalled, ev.Span+testutil.Patience(50*ms), "the clock is read before the counter")
	assert.GreaterOrEqual(t, ev.Total, ev.Stalled)
	assert.Equal(t, Sampler, ev.Source)
	assert.Equal(t, 100*ms, ev.Latency)
	assert.True(t, ev.Throttled.IsZero(), "a cpu quota stalls nobody for memory")
	nothing(t, w, 600*ms) // it lasts, and that is no news

	f.set(func() {
		f.total[memoryPressure] += time.Since(f.growing[memoryPressure])
		delete(f.growing, memoryPressure)
	})
	begin := time.Now()
	ev = nextAs[Pressure](t, w)
	assert.False(t, ev.Rising)
	assert.Less(t, ev.Stalled, th.clear())
	assert.GreaterOrEqual(t, time.Since(begin), th.Window-ms)
	require.NoError(t, w.Close())
	idle(t, e)
}

func TestTriggeredPressure(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	f.privileged = true
	th := Threshold{Resource: cgroups.PressureCPU, Stall: 200 * ms, Window: 2 * time.Second, Clear: 50 * ms}
	w := watchFake(t, e, f, WatchConfig{Pressure: []Threshold{th}})
	assert.Equal(t, th.trigger(), f.open[0].trigger)
	assert.Empty(t, e.beats)
	assert.Equal(t, 1, f.reads, "once when the watch began, and not again while nothing happens")

	f.ring(t, isTrigger)
	nothing(t, w, 50*ms) // a false alarm
	f.set(func() { f.total[cgroups.PressureCPU] += 200 * ms; f.throttle += 150 * ms })
	f.ring(t, isTrigger)
	ev := nextAs[Pressure](t, w)
	assert.True(t, ev.Rising)
	assert.Equal(t, 200*ms, ev.Stalled)
	assert.Equal(t, cgroups.ReadingOf(150*ms), ev.Throttled)
	if ev.Source == Trigger { // a sample that the false alarm asked for may be faster
		assert.Equal(t, 200*ms, ev.Latency)
	}
	ev = nextAs[Pressure](t, w)
	assert.False(t, ev.Rising, "which only samples can tell")
	assert.Equal(t, Sampler, ev.Source)
	idle(t, e)
}

func TestCounters(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	n := cgroups.ReadingOf[uint64]
	f.events.Memory = cgroups.MemoryEvents{High: n(5), Max: n(5), OOM: n(5), OOMKill: n(5)}
	f.events.PIDs.Max = n(5)
	f.events.Populated = cgroups.ReadingOf(true)
	f.events.Frozen = cgroups.ReadingOf(false)
	w := watchFake(t, e, f, WatchConfig{Memory: true, PIDs: true, Populated: true})

	// Ready without a change, which the kernel does now and then.
	f.ring(t, func(*fakeNotifier) bool { return true })
	nothing(t, w, 30*ms)

	f.set(func() { f.events.Memory = cgroups.MemoryEvents{High: n(6), Max: n(8), OOM: n(6), OOMKill: n(7)} })
	f.ring(t, ofKind(cgroups.EventMemory))
	ev := nextAs[LimitHit](t, w)
	assert.Equal(t, LimitHit{Time: ev.Time, Resource: "memory.high", Count: 1}, ev)
	ev = nextAs[LimitHit](t, w)
	assert.Equal(t, LimitHit{Time: ev.Time, Resource: "memory.max", Count: 3}, ev)
	oom := nextAs[OOM](t, w)
	assert.Equal(t, OOM{Time: oom.Time, OOMs: 1, Kills: 2}, oom)

	f.set(func() {
		f.events.PIDs.Max = n(9)
		f.events.Populated = cgroups.ReadingOf(false)
		f.events.Frozen = cgroups.ReadingOf(true)
	})
	f.ring(t, ofKind(cgroups.EventState))
	ev = nextAs[LimitHit](t, w)
	assert.Equal(t, LimitHit{Time: ev.Time, Resource: "pids.max", Count: 4}, ev)
	assert.True(t, nextAs[Frozen](t, w).Frozen)
	assert.False(t, nextAs[Populated](t, w).Populated)

	// A counter that became smaller or absent did not grow.
	f.set(func() { f.events.PIDs.Max = n(0); f.events.Memory = cgroups.MemoryEvents{} })
	f.ring(t, ofKind(cgroups.EventPIDs))
	nothing(t, w, 30*ms)
}

// On v1 the notification comes before the kill is counted.
func TestEarlyOOM(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	f.early = true
	n := cgroups.ReadingOf[uint64]
	f.events.Memory.OOMKill = n(0)
	w := watchFake(t, e, f, WatchConfig{Memory: true})
	f.ring(t, ofKind(cgroups.EventMemory))
	nothing(t, w, 30*ms)
	f.set(func() { f.events.Memory.OOMKill = n(1) })
	assert.EqualValues(t, 1, nextAs[OOM](t, w).Kills)
	idle(t, e)
	f.ring(t, ofKind(cgroups.EventMemory)) // it tells several times
	nothing(t, w, afterOOMTime+200*ms)
	idle(t, e)

	quiet := newFake()
	quiet.early = true
	w = watchFake(t, e, quiet, WatchConfig{Memory: true})
	quiet.ring(t, ofKind(cgroups.EventMemory))
	oom := nextAs[OOM](t, w)
	assert.Equal(t, OOM{Time: oom.Time}, oom, "told of an OOM, and nobody was killed")
}

// On v1 nothing tells that a limit was hit.
func TestSilentCounters(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	f.mute = true
	f.events.PIDs.Max = cgroups.ReadingOf[uint64](0)
	w := watchFake(t, e, f, WatchConfig{PIDs: true})
	f.set(func() { f.events.PIDs.Max = cgroups.ReadingOf[uint64](3) })
	assert.EqualValues(t, 3, nextAs[LimitHit](t, w).Count)
	require.NoError(t, w.Close())
	idle(t, e)
}

func TestPending(t *testing.T) {
	e, f := newEngine(t), newFake()
	f.events.Memory.OOMKill = cgroups.ReadingOf[uint64](0)
	w := watchFake(t, e, f, WatchConfig{Memory: true})
	for ev := range w.Pending() {
		assert.Fail(t, "nothing has happened", "%v", ev)
	}
	f.set(func() { f.events.Memory.OOMKill = cgroups.ReadingOf[uint64](1) })
	var all []Event
	for ev := range w.Pending() { // nobody has rung
		all = append(all, ev)
	}
	require.Len(t, all, 1)
	assert.EqualValues(t, 1, all[0].(OOM).Kills)
	require.NoError(t, w.Close())
	for ev := range w.Pending() {
		assert.Fail(t, "closed", "%v", ev)
	}
}

func TestGone(t *testing.T) {
	testutil.CheckLeaks(t)
	gone := func(f *fake) { f.err = cgroups.ErrGone }
	for name, c := range map[string]struct {
		cfg  WatchConfig
		ring func(*fakeNotifier) bool
	}{
		"by sampling":    {WatchConfig{Pressure: []Threshold{memory(ms, 500*ms, 0)}}, func(*fakeNotifier) bool { return false }},
		"by a counter":   {WatchConfig{Memory: true, PIDs: true}, ofKind(cgroups.EventPIDs)},
		"by all at once": {WatchConfig{Memory: true, PIDs: true, Populated: true, Pressure: []Threshold{memory(ms, 500*ms, 0)}}, func(*fakeNotifier) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			e, f := newEngine(t), newFake()
			w := watchFake(t, e, f, c.cfg)
			f.set(func() { gone(f) })
			f.ring(t, c.ring)
			assert.IsType(t, Gone{}, next(t, w))
			_, err := w.Next(context.Background())
			require.Equal(t, io.EOF, err)
			idle(t, e)
			e.mu.Lock()
			assert.Empty(t, e.watches)
			e.mu.Unlock()
		})
	}
}

func TestFailed(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	w := watchFake(t, e, f, WatchConfig{Memory: true, Pressure: []Threshold{memory(ms, 500*ms, 0)}})
	f.set(func() { f.err = errFake })
	ev := nextAs[Failed](t, w)
	assert.Equal(t, "memory pressure", ev.What)
	require.ErrorIs(t, ev.Err, errFake)
	idle(t, e)
	f.ring(t, ofKind(cgroups.EventMemory))
	assert.Equal(t, "events", nextAs[Failed](t, w).What)
	require.NoError(t, w.Close())

	f = newFake()
	f.err = errFake
	_, err := e.watch(f, WatchConfig{Pressure: []Threshold{memory(ms, 500*ms, 0)}})
	require.ErrorIs(t, err, errFake, "what cannot be watched from the start is refused")
	_, err = e.watch(f, WatchConfig{Memory: true, PIDs: true})
	require.ErrorIs(t, err, errFake)
	for _, n := range f.open {
		assert.Equal(t, -1, n.fd.Int())
	}
	full := memory(ms, 500*ms, 0)
	full.Full = true
	_, err = e.watch(newFake(), WatchConfig{Pressure: []Threshold{full}})
	require.ErrorIs(t, err, cgroups.ErrNotSupported)
	idle(t, e)
}

func TestWatchConfig(t *testing.T) {
	e := newEngine(t)
	group, root := &cgroups.Cgroup{}, &cgroups.Root{}
	for reason, cfg := range map[string]WatchConfig{
		"either a cgroup or a root": {},
		"either a cgroup":           {Cgroup: group, Root: root},
		"negative":                  {Cgroup: group, Capacity: -1},
		"no events but pressure":    {Root: root, Memory: true},
		"something always runs":     {Root: root, Pressure: []Threshold{{Resource: cgroups.PressureCPU, Full: true, Stall: ms, Window: time.Second}}},
		"not within 500ms and 10s":  {Cgroup: group, Pressure: []Threshold{memory(1, math.MaxInt64, 0)}},
	} {
		_, err := e.Watch(cfg)
		require.ErrorIs(t, err, cgroups.ErrInvalid, reason)
		assert.ErrorContains(t, err, reason)
	}
}

func TestOverflow(t *testing.T) {
	e, f := newEngine(t), newFake()
	f.events.Populated = cgroups.ReadingOf(false)
	w := watchFake(t, e, f, WatchConfig{Populated: true, Capacity: 2})
	for i := range 7 {
		f.set(func() { f.events.Populated = cgroups.ReadingOf(i%2 == 0) })
		w.look()
	}
	assert.EqualValues(t, 5, nextAs[Lost](t, w).N)
	assert.False(t, nextAs[Populated](t, w).Populated)
	assert.True(t, nextAs[Populated](t, w).Populated, "the present state")
}

func TestClose(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	cfg := WatchConfig{Memory: true, Pressure: []Threshold{memory(ms, 500*ms, 0)}}
	one, two := watchFake(t, e, f, cfg), watchFake(t, e, f, cfg)
	ends := make(chan error, 2)
	for _, w := range []*Watch{one, two} {
		go func() {
			_, err := w.Next(context.Background())
			ends <- err
		}()
	}
	require.NoError(t, one.Close())
	closed(t, <-ends)
	require.NoError(t, one.Close())
	require.NoError(t, e.Close())
	closed(t, <-ends)
	_, err := two.Next(context.Background())
	closed(t, err)
	require.NoError(t, two.Close())
	require.NoError(t, e.Close())

	_, err = e.watch(newFake(), cfg)
	closed(t, err)
	fd, err := sys.NewEventFD()
	require.NoError(t, err)
	defer fd.Close()
	_, err = e.OnExit(fd.Int(), func() { assert.Fail(t, "closed") })
	closed(t, err)

	unused, err := NewEngine()
	require.NoError(t, err)
	require.NoError(t, unused.Close())
}

func TestCloseFromOnExit(t *testing.T) {
	testutil.CheckLeaks(t)
	e, f := newEngine(t), newFake()
	w := watchFake(t, e, f, WatchConfig{Memory: true})
	fd, err := sys.NewEventFD()
	require.NoError(t, err)
	defer fd.Close()
	_, err = e.OnExit(fd.Int(), func() { assert.NoError(t, e.Close()) })
	require.NoError(t, err)
	require.NoError(t, writeOne(fd))
	_, err = w.Next(context.Background())
	closed(t, err)
}

func writeOne(fd *sys.FD) error {
	_, err := syscall.Write(fd.Int(), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

// Watches come and go on several goroutines while their files change.
func TestWatchRace(t *testing.T) {
	testutil.CheckLeaks(t)
	e := newEngine(t)
	rounds := 100
	if testutil.Emulated() {
		rounds = 10
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range rounds {
				f := newFake()
				f.privileged = i%2 == 0
				w, err := e.watch(f, WatchConfig{Memory: true, PIDs: true, Populated: true, Pressure: []Threshold{memory(ms, 500*ms, 0)}})
				if !assert.NoError(t, err) {
					return
				}
				f.set(func() { f.total[memoryPressure] += 5 * ms; f.events.Memory.OOMKill = cgroups.ReadingOf[uint64](1) })
				f.ring(t, func(*fakeNotifier) bool { return true })
				if i == 0 {
					f.set(func() { f.err = cgroups.ErrGone })
				}
				ctx, cancel := context.WithTimeout(context.Background(), ms)
				_, _ = w.Next(ctx)
				cancel()
				assert.NoError(t, w.Close())
			}
		})
	}
	wg.Wait()
	idle(t, e)
	assert.Empty(t, e.watches)
}

func BenchmarkTickFake(b *testing.B) {
	e := newEngine(b)
	for range 100 {
		cfg := WatchConfig{Pressure: []Threshold{
			{Resource: cgroups.PressureCPU, Stall: 100 * ms, Window: time.Second},
			{Resource: cgroups.PressureMemory, Stall: 100 * ms, Window: time.Second},
			{Resource: cgroups.PressureIO, Stall: 100 * ms, Window: time.Second},
		}}
		w, err := e.watch(newFake(), cfg)
		require.NoError(b, err)
		defer w.Close()
	}
	b.ReportAllocs()
	for b.Loop() {
		for w := range e.watches {
			for _, g := range w.gauges {
				g.tick()
			}
		}
	}
}
