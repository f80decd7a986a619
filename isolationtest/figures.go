// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Figures are what was measured of the victim.
type Figures struct {
	// Latencies are those of all requests that were due meanwhile, ascending.
	Latencies []time.Duration
	// Elapsed is how long it was measured.
	Elapsed time.Duration
	// Antagonists is how many CPUs they used on average; 0 while there were none. It is
	// NaN where that cannot be measured.
	Antagonists float64
}

// Quantile is the latency that a part q of all does not exceed, in seconds: +Inf of none,
// since a victim that answers nothing has no good figures.
func (f Figures) Quantile(q float64) float64 {
	if len(f.Latencies) == 0 {
		return math.Inf(1)
	}
	i := int(math.Ceil(q*float64(len(f.Latencies)))) - 1
	return f.Latencies[min(max(i, 0), len(f.Latencies)-1)].Seconds()
}

// Rate is how many requests were answered in a second.
func (f Figures) Rate() float64 { return float64(len(f.Latencies)) / f.Elapsed.Seconds() }

// Round is the victim beside the antagonists, and alone just before and after.
type Round struct {
	Alone  Figures
	Beside Figures
}

// sample is one latency, and when it was read.
type sample struct {
	at      time.Time
	latency time.Duration
}

// due is when the request was.
func (s sample) due() time.Time { return s.at.Add(-s.latency) }

// span is a time in which the victim is measured.
type span struct{ from, to time.Time }

// figures are of those that were due in the spans: an answer that came late belongs to
// what made it late.
func figures(samples []sample, spans ...span) Figures {
	var f Figures
	for _, s := range spans {
		f.Elapsed += s.to.Sub(s.from)
		for _, x := range samples {
			if due := x.due(); !due.Before(s.from) && due.Before(s.to) {
				f.Latencies = append(f.Latencies, x.latency)
			}
		}
	}
	slices.SortFunc(f.Latencies, cmp.Compare)
	return f
}
