// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

func memory(stall, window, clear time.Duration) Threshold {
	return Threshold{Resource: cgroups.PressureMemory, Stall: stall, Window: window, Clear: clear}
}

func TestThresholdValidate(t *testing.T) {
	good := memory(100*ms, time.Second, 0)
	require.NoError(t, good.Validate())
	for reason, spoil := range map[string]func(*Threshold){
		"neither cpu":          func(t *Threshold) { t.Resource = 0 },
		"neither cpu nor":      func(t *Threshold) { t.Resource = 9 },
		"within 500ms and 10s": func(t *Threshold) { t.Window = 11 * time.Second },
		"not within 500ms":     func(t *Threshold) { t.Window = 499 * ms },
		"less than 1µs":        func(t *Threshold) { t.Stall = 0 },
		"less than":            func(t *Threshold) { t.Stall = -ms },
		"longer than the":      func(t *Threshold) { t.Stall = 1001 * ms },
		"whole microseconds":   func(t *Threshold) { t.Stall = 1500 },
		"clear":                func(t *Threshold) { t.Clear = -1 },
		"the stall of 100ms":   func(t *Threshold) { t.Clear = 101 * ms },
	} {
		bad := good
		spoil(&bad)
		err := bad.Validate()
		require.ErrorIs(t, err, cgroups.ErrInvalid, reason)
		assert.ErrorContains(t, err, reason)
	}
}

func TestThresholdDerived(t *testing.T) {
	for window, period := range map[time.Duration]time.Duration{
		500 * ms: 100 * ms, 999 * ms: 100 * ms, time.Second: 100 * ms, 2 * time.Second: 100 * ms,
		10 * time.Second: 100 * ms, 100 * ms: 25 * ms,
	} {
		assert.Equal(t, period, memory(ms, window, 0).period(), window)
	}
	assert.Equal(t, 50*ms, memory(100*ms, time.Second, 0).clear())
	assert.Equal(t, 70*ms, memory(100*ms, time.Second, 70*ms).clear())

	assert.Equal(t, cgroups.Trigger{Stall: 100 * ms, Window: time.Second}, memory(100*ms, time.Second, 0).trigger())
	for _, window := range []time.Duration{2 * time.Second, 4 * time.Second, 10 * time.Second} {
		k := memory(window, window, 0).trigger()
		require.NoError(t, k.Validate())
		assert.NotZero(t, k.Window%cgroups.TriggerWindowStep)
	}
}

// at is a sample in milliseconds.
func at(when, total int) sample {
	return sample{at: time.Duration(when) * ms, total: time.Duration(total) * ms}
}

func TestWindow(t *testing.T) {
	type step struct {
		sample
		want    edge
		stalled time.Duration // at an edge
	}
	for name, c := range map[string]struct {
		threshold Threshold
		steps     []step
	}{
		"the first sample says nothing": {memory(100*ms, time.Second, 0), []step{{at(0, 99999), none, 0}}},
		"exactly the threshold": {memory(100*ms, time.Second, 0), []step{
			{at(0, 0), none, 0}, {at(100, 50), none, 0}, {at(200, 100), rising, 100 * ms}, {at(300, 150), none, 0},
		}},
		"a stall that left the window does not count": {memory(100*ms, time.Second, 0), []step{
			{at(0, 0), none, 0}, {at(100, 60), none, 0}, {at(600, 60), none, 0}, {at(1150, 120), none, 0},
			{at(1200, 160), rising, 100 * ms}, // since 600
		}},
		"over after a whole calm window": {memory(100*ms, time.Second, 50*ms), []step{
			{at(0, 0), none, 0}, {at(500, 100), rising, 100 * ms},
			{at(1000, 100), none, 0}, // 100 since 0
			{at(1400, 100), none, 0}, // 0 since 500: calm from here
			{at(2000, 100), none, 0},
			{at(2390, 100), none, 0},
			{at(2400, 100), falling, 0},
			{at(2500, 100), none, 0},
		}},
		"a relapse begins the calm anew": {memory(100*ms, time.Second, 50*ms), []step{
			{at(0, 0), none, 0}, {at(500, 100), rising, 100 * ms}, {at(1600, 100), none, 0},
			{at(2500, 150), none, 0}, // 50 is not below clear
			{at(3300, 150), none, 0}, // calm from here
			{at(4200, 150), none, 0},
			{at(4300, 150), falling, 0},
		}},
		"a gap counts by its average": {memory(100*ms, time.Second, 0), []step{
			{at(0, 0), none, 0}, {at(10_000, 999), none, 0}, {at(20_000, 1999), rising, 1000 * ms},
		}},
		"a counter that went back is another one": {memory(100*ms, time.Second, 0), []step{
			{at(0, 500), none, 0}, {at(100, 590), none, 0}, {at(200, 10), none, 0}, {at(300, 100), none, 0}, {at(400, 110), rising, 100 * ms},
		}},
		"time that stands still": {memory(100*ms, time.Second, 0), []step{
			{at(0, 0), none, 0}, {at(0, 200), none, 0}, {at(1, 200), rising, 200 * ms},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := window{threshold: c.threshold}
			for i, s := range c.steps {
				e, m := w.add(s.sample)
				require.Equal(t, s.want, e, "step %d", i)
				if e != none {
					assert.Equal(t, s.stalled, m.stalled, "step %d", i)
				}
			}
		})
	}
}

// TestWindowIsSoon stalls at a steady rate from some moment on, sampled by ticks that
// are a little early or late: that the threshold is crossed is known at most 250 ms
// later, and never before, if the stalling goes on for a period.
func TestWindowIsSoon(t *testing.T) {
	testutil.Require(t, testutil.Real)
	r := rand.New(rand.NewPCG(11, 12))
	worst := time.Duration(0)
	for range 2000 {
		th := memory(0, time.Duration(500+r.IntN(4000))*ms, 0)
		rate := 0.02 + 0.98*r.Float64()
		th.Stall = time.Duration(rate * (0.05 + 0.95*r.Float64()) * float64(th.Window-th.period()-4*ms))
		from := 10*time.Second + time.Duration(r.Int64N(int64(time.Second)))
		crossed := from + time.Duration(float64(th.Stall)/rate)
		w := window{threshold: th}
		for n := 0; ; n++ {
			now := time.Duration(n)*th.period() + time.Duration(r.Int64N(int64(4*ms)))
			e, _ := w.add(sample{at: now, total: time.Duration(rate * float64(max(0, now-from)))})
			require.Less(t, now, crossed+250*ms, "%v at a rate of %v", th, rate)
			if e == rising {
				require.GreaterOrEqual(t, now, crossed-ms)
				worst = max(worst, now-crossed)
				break
			}
		}
	}
	t.Logf("at most %v after the threshold was crossed", worst)
}

func TestWindowTrip(t *testing.T) {
	w := window{threshold: memory(100*ms, time.Second, 0)}
	w.begin(at(0, 1000))

	e, _ := w.trip(at(60_000, 1099))
	assert.Equal(t, none, e, "a false alarm: not so much was stalled since the watch began")

	e, m := w.trip(at(120_000, 1199))
	assert.Equal(t, rising, e, "the kernel saw it within a window")
	assert.Equal(t, measure{span: 60_000 * ms, stalled: 100 * ms}, m)
	e, _ = w.trip(at(121_000, 1299))
	assert.Equal(t, none, e, "it says so once a window")

	e, _ = w.add(at(122_100, 1299))
	assert.Equal(t, none, e)
	e, _ = w.add(at(123_100, 1299))
	assert.Equal(t, falling, e)
}

// Random stalling, sampled at random moments: every claim is true of the
// stalling as it was, and claims alternate.
func TestWindowProperties(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		stall := time.Duration(1+r.IntN(500)) * ms
		clear := time.Duration(r.Int64N(int64(stall))) + 1
		th := memory(stall, time.Second, clear)
		w := window{threshold: th}

		// history[i] is the total at i milliseconds.
		history := make([]time.Duration, 30_000)
		busy := false
		for i := 1; i < len(history); i++ {
			if r.IntN(300) == 0 {
				busy = !busy
			}
			history[i] = history[i-1]
			if busy && r.IntN(3) > 0 {
				history[i] += ms
			}
		}
		within := func(from, to int) time.Duration { return history[to] - history[max(from, 0)] }

		high, changed, last := false, 0, 0
		for now := 0; now < len(history); {
			e, m := w.add(sample{at: time.Duration(now) * ms, total: history[now]})
			require.LessOrEqual(t, len(w.samples), 1002)
			switch e {
			case none:
			case rising:
				require.False(t, high, "seed %d: two risings", seed)
				require.LessOrEqual(t, m.stalled, m.span)
				// Some window that ends after the last sample holds the stall.
				most := time.Duration(0)
				for end := last; end <= now; end++ {
					most = max(most, within(end-1000, end))
				}
				require.GreaterOrEqual(t, most, stall, "seed %d at %d", seed, now)
				high, changed = true, now
			case falling:
				require.True(t, high, "seed %d: fell without rising", seed)
				require.GreaterOrEqual(t, now-changed, 1000, "seed %d", seed)
				high = false
			}
			last = now
			step := 1 + r.IntN(200)
			if r.IntN(50) == 0 {
				step = r.IntN(5000) + 1 // a starved sampler
			}
			now += step
		}
	}
}

// With regular samples, a stall is seen one period after it was complete, at
// the latest, if it is a period's worth above the threshold.
func TestWindowIsPrompt(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		th := memory(200*ms, time.Second, 0)
		w := window{threshold: th}
		begin := 1000 + r.IntN(500)
		risen := 0
		for now := 0; now < 5000 && risen == 0; now += 100 {
			if e, _ := w.add(at(now, max(0, now-begin))); e == rising {
				risen = now
			}
		}
		assert.LessOrEqual(t, risen, begin+200+100, "seed %d", seed)
		assert.GreaterOrEqual(t, risen, begin+200, "seed %d", seed)
	}
}

// Samples are taken as seldom as they may be: who begins to stall is noticed within a
// period of the crossing, and at a fraction of the samples while nobody does.
func TestWindowWaits(t *testing.T) {
	for _, th := range []Threshold{
		{Stall: 200 * ms, Window: 2 * time.Second}, {Stall: 500 * ms, Window: 2 * time.Second},
		{Stall: 100 * ms, Window: 500 * ms}, {Stall: ms, Window: 500 * ms}, {Stall: 700 * ms, Window: 10 * time.Second},
	} {
		for _, rate := range []float64{0.4, 0.7, 1} {
			for start := time.Duration(0); start < time.Second; start += 7 * ms {
				w := window{threshold: th}
				w.begin(sample{})
				at, n := time.Duration(0), 0
				for e := none; e != rising; n++ {
					at += w.wait()
					e, _ = w.add(sample{at: at, total: time.Duration(rate * float64(max(0, at-start)))})
				}
				late := at - start - time.Duration(float64(th.Stall)/rate)
				require.GreaterOrEqual(t, late, -time.Microsecond)
				require.LessOrEqual(t, late, th.period()+time.Microsecond, "%+v at %v from %v", th, rate, start)
			}
		}
	}
	w := window{threshold: Threshold{Stall: 200 * ms, Window: 2 * time.Second}}
	w.begin(sample{})
	assert.Equal(t, 300*ms, w.wait(), "nothing stalls")
	w.add(sample{at: 300 * ms, total: 90 * ms})
	assert.Equal(t, 200*ms, w.wait())
	w.add(sample{at: 500 * ms, total: 250 * ms})
	assert.Equal(t, 400*ms, w.wait(), "crossed")
}
