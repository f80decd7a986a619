// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

// quiet is an experiment without faults.
func quiet() Experiment {
	return Experiment{
		Victim:      Command(func(string) (time.Duration, bool) { return 0, false }, "/bin/true"),
		Antagonists: []isolation.Spec{{Process: isolation.Process{Args: []string{"/bin/true"}}}},
		Expect:      []Expectation{P99Within(1.2)},
	}
}

func TestExperimentIsCompleted(t *testing.T) {
	e := quiet()
	e.Antagonists = append(e.Antagonists, e.Antagonists[0])
	full, err := e.complete()
	require.NoError(t, err)
	assert.Equal(t, "victim", full.Victim.Spec.ID)
	assert.Equal(t, "antagonist-1, antagonist-2", names(full.Antagonists))
	assert.Equal(t, 2*time.Second, full.Phase)
	assert.Equal(t, 500*ms, full.Settle)
	assert.Equal(t, 15, full.Rounds)
	assert.Empty(t, e.Antagonists[0].ID, "the caller's own stays")
}

func TestExperimentMakesNoSense(t *testing.T) {
	for reason, spoil := range map[string]func(*Experiment){
		"the victim has no Latency":               func(e *Experiment) { e.Victim.Latency = nil },
		"there are no antagonists":                func(e *Experiment) { e.Antagonists = nil },
		"nothing is expected":                     func(e *Experiment) { e.Expect = nil },
		`expectation 1, "mine", has no Judge`:     func(e *Experiment) { e.Expect = []Expectation{{Name: "mine"}} },
		"phase is negative":                       func(e *Experiment) { e.Phase = -1 },
		"settle is negative":                      func(e *Experiment) { e.Settle = -1 },
		"rounds is negative":                      func(e *Experiment) { e.Rounds = -1 },
		"2 rounds cannot tell anything":           func(e *Experiment) { e.Rounds = 2 },
		`two sandboxes have the ID "victim"`:      func(e *Experiment) { e.Antagonists[0].ID = "victim" },
		`"../x"`:                                  func(e *Experiment) { e.Antagonists[0].ID = "../x" },
		"a quantile of 1.5":                       func(e *Experiment) { e.Expect[0] = QuantileWithin(1.5, 2) },
		"a factor of NaN":                         func(e *Experiment) { e.Expect[0] = P99Within(math.NaN()) },
		"a part of 0":                             func(e *Experiment) { e.Expect[0] = RateWithin(0) },
		"a number of CPUs of -1":                  func(e *Experiment) { e.Expect[0] = AntagonistsUse(-1) },
		"work of 2ms cannot be done every 1ms":    func(e *Experiment) { e.Victim = Pulse(ms, 2*ms) },
		`directory "tmp" is not an absolute path`: func(e *Experiment) { e.Antagonists[0] = DiskHog("tmp", 1) },
		"cpu of 0":                                func(e *Experiment) { e.Antagonists[0] = CPUHog(0) },
	} {
		t.Run(reason, func(t *testing.T) {
			e := quiet()
			spoil(&e)
			_, err := e.complete()
			require.ErrorContains(t, err, reason)
		})
	}
}

// A request belongs to the time in which it was due, however late its answer is.
func TestFiguresAreOfWhatWasDue(t *testing.T) {
	start := time.Unix(100, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	samples := []sample{
		{at(5 * ms), 5 * ms},     // due at 0
		{at(30 * ms), 10 * ms},   // at 20
		{at(900 * ms), 801 * ms}, // at 99, and answered in another time
		{at(105 * ms), 5 * ms},   // at 100
		{at(2 * ms), 3 * ms},     // before
	}
	f := figures(samples, span{at(0), at(100 * ms)})
	assert.Equal(t, []time.Duration{5 * ms, 10 * ms, 801 * ms}, f.Latencies)
	assert.Equal(t, 100*ms, f.Elapsed)
	assert.InDelta(t, 30, f.Rate(), 1e-9)
	f = figures(samples, span{at(-10 * ms), at(0)}, span{at(100 * ms), at(200 * ms)})
	assert.Equal(t, []time.Duration{3 * ms, 5 * ms}, f.Latencies)
	assert.Equal(t, 110*ms, f.Elapsed)
}

func TestQuantile(t *testing.T) {
	var f Figures
	assert.True(t, math.IsInf(f.Quantile(0.99), 1), "no answer is no good answer")
	for i := range 100 {
		f.Latencies = append(f.Latencies, time.Duration(i+1)*ms)
	}
	for q, want := range map[float64]float64{0.001: 0.001, 0.01: 0.001, 0.5: 0.050, 0.99: 0.099, 0.991: 0.100, 1: 0.100} {
		assert.InDelta(t, want, f.Quantile(q), 1e-9, "%v", q)
	}
}

// of is what was measured: n requests in a second, all as late, with so many CPUs.
func of(n int, latency time.Duration, cpus float64) Figures {
	f := Figures{Elapsed: time.Second, Antagonists: cpus}
	for range n {
		f.Latencies = append(f.Latencies, latency)
	}
	return f
}

func TestExpectations(t *testing.T) {
	alone := of(100, 10*ms, 0)
	for _, tc := range []struct {
		x      Expectation
		beside Figures
		figure float64
		holds  bool
	}{
		{P99Within(1.2), of(100, 12*ms, 0), 1.2, true},
		{P99Within(1.2), of(100, 13*ms, 0), 1.3, false},
		{P99Within(1.2), of(0, 0, 0), math.Inf(1), false},
		{QuantileWithin(0.5, 2), of(100, 15*ms, 0), 1.5, true},
		{RateWithin(0.9), of(90, ms, 0), 0.9, true},
		{RateWithin(0.9), of(89, ms, 0), 0.89, false},
		{AntagonistsUse(1.5), of(1, ms, 1.5), 1.5, true},
		{AntagonistsUse(1.5), of(1, ms, 1.4), 1.4, false},
		{AntagonistsUse(1.5), of(1, ms, math.NaN()), math.NaN(), false},
	} {
		figure, holds := tc.x.Judge(Round{Alone: alone, Beside: tc.beside})
		assert.Equal(t, tc.holds, holds, "%s: %v", tc.x.Name, figure)
		if math.IsNaN(tc.figure) {
			assert.True(t, math.IsNaN(figure))
		} else if !math.IsInf(tc.figure, 1) {
			assert.InDelta(t, tc.figure, figure, 1e-9, tc.x.Name)
		}
	}
}

// TestVerdict: three rounds more than the contrary decide, and what comes then changes
// nothing.
func TestVerdict(t *testing.T) {
	for rounds, want := range map[string]string{
		"":        "x: cannot be told (in 0 of 0 rounds; median NaN)",
		"++":      "x: cannot be told (in 2 of 2 rounds; median 1.00)",
		"+++":     "x: holds (in 3 of 3 rounds; median 1.00)",
		"+++---":  "x: holds (in 3 of 3 rounds; median 1.00)",
		"---":     "x: does not hold (in 0 of 3 rounds; median 2.00)",
		"+-+-+":   "x: cannot be told (in 3 of 5 rounds; median 1.00)",
		"+-+-":    "x: cannot be told (in 2 of 4 rounds; median 1.50)",
		"+-+-+++": "x: holds (in 5 of 7 rounds; median 1.00)",
		"-+---":   "x: does not hold (in 1 of 5 rounds; median 2.00)",
	} {
		v := Verdict{Expectation: "x"}
		for _, c := range rounds {
			v.add(Expectation{Judge: func(Round) (float64, bool) {
				if c == '+' {
					return 1, true
				}
				return 2, false
			}}, Round{})
		}
		assert.Equal(t, want, v.String(), rounds)
		assert.Equal(t, strings.Contains(want, ": holds"), v.Holds())
	}
}

func TestReport(t *testing.T) {
	r := Report{
		Antagonists: "cpu-hog, memory-hog", Ended: 2,
		Rounds:   []Round{{of(500, 2*ms, 0), of(490, 3*ms, 1.25)}, {of(500, 2*ms, 0), of(0, 0, math.NaN())}},
		Verdicts: []Verdict{{"p99 within 1.2x", []float64{1.5, math.Inf(1)}, 0, false}},
	}
	assert.Equal(t, `2 rounds beside cpu-hog, memory-hog
     alone: p50       p99  1/s  beside: p50       p99  1/s  their CPUs
  1    2.000 ms  2.000 ms  500     3.000 ms  3.000 ms  490        1.25
  2    2.000 ms  2.000 ms  500      +Inf ms   +Inf ms    0         NaN
antagonists that were ended by a signal: 2
p99 within 1.2x: cannot be told (in 0 of 2 rounds; median +Inf)
`, r.String())
}
