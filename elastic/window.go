// SPDX-License-Identifier: Apache-2.0

package elastic

import "time"

// sample is a counter of stalled time at one moment. Moments are times since an
// arbitrary start.
type sample struct {
	at        time.Duration
	total     time.Duration // time stalled since the group was made
	throttled time.Duration // time throttled since the group was made
}

// edge is what a sample changed.
type edge uint8

const (
	none edge = iota
	rising
	falling
)

// window decides from samples when a threshold is crossed and when that is
// over. It has no clock and reads nothing.
//
// It never claims a stall that has not been: what it measures begins at the
// oldest sample within the window, and what was before that counts as far as it
// cannot have been before the window. After a gap in the samples
// longer than the window (a starved machine), it goes by the average over the
// gap, which some window within it has at least reached.
type window struct {
	threshold Threshold
	samples   []sample // ascending; at most the first is older than the window

	high     bool // crossed, and not over
	calm     bool // high, and below clear at every sample since calmFrom
	calmFrom time.Duration
}

// wait is when to take the next sample. What a crossing lacks takes at least as long
// as that, so until then none is needed, and one a period later is soon enough. There
// are five a window at least, or what is within it would not be known well.
func (w *window) wait() time.Duration {
	p := w.threshold.period()
	more := w.threshold.Window/5 - p
	if !w.high { // what is over is told a window later
		lacking := w.threshold.Stall - (w.samples[len(w.samples)-1].total - w.samples[0].total)
		more = max(0, min(lacking, more))
	}
	return p + more/p*p
}

// measure is what happened since base, an earlier sample.
type measure struct {
	span, stalled, throttled time.Duration
}

// begin forgets everything and starts from s.
func (w *window) begin(s sample) {
	w.samples = append(w.samples[:0], s)
	w.high, w.calm = false, false
}

// add takes the next sample.
func (w *window) add(s sample) (edge, measure) {
	m, in, ok := w.measure(s)
	switch {
	case !ok:
	case !w.high && in >= w.threshold.Stall:
		w.high, w.calm = true, false
		return rising, m
	case !w.high:
	case in >= w.threshold.clear():
		w.calm = false
	case !w.calm:
		w.calm, w.calmFrom = true, s.at
	case s.at-w.calmFrom >= w.threshold.Window:
		w.high = false
		return falling, m
	}
	return none, m
}

// trip takes the sample at which the kernel says that the threshold is crossed.
// It is believed if as much stalling has been since the last sample before the
// window; the samples are not dense enough to see more.
func (w *window) trip(s sample) (edge, measure) {
	high := w.high
	e, m := w.add(s)
	before := w.samples[0]
	if high || e == rising || s.total-before.total < w.threshold.Stall {
		return e, m
	}
	w.high, w.calm = true, false
	return rising, measure{s.at - before.at, s.total - before.total, s.throttled - before.throttled}
}

// measure appends s and returns what happened since the oldest sample within
// the window, and how much of that stalling is within the window for certain.
// It is not ok if there is nothing to compare with.
func (w *window) measure(s sample) (m measure, in time.Duration, ok bool) {
	n := len(w.samples)
	if n == 0 || s.total < w.samples[n-1].total || s.at <= w.samples[n-1].at {
		// The first sample; or the counter is another one, since this one
		// only grows.
		if n == 0 || s.total < w.samples[n-1].total {
			w.begin(s)
		}
		return measure{}, 0, false
	}
	start, first := s.at-w.threshold.Window, 0
	for first < n-1 && w.samples[first+1].at < start {
		first++
	}
	if first > 0 {
		n = copy(w.samples, w.samples[first:])
		w.samples = w.samples[:n]
	}
	base, older := w.samples[0], time.Duration(0)
	if base.at < start && n > 1 {
		older = max(0, w.samples[1].total-base.total-(start-base.at))
		base = w.samples[1]
	}
	w.samples = append(w.samples, s)

	m = measure{s.at - base.at, s.total - base.total, s.throttled - base.throttled}
	if older > 0 {
		m.stalled, m.span = m.stalled+older, w.threshold.Window
	}
	in = m.stalled
	if m.span > w.threshold.Window {
		// Both are at most hours, so the product of one with a share of the
		// other is exact enough in floating point.
		in = time.Duration(float64(m.stalled) * (float64(w.threshold.Window) / float64(m.span)))
	}
	return m, in, true
}
