// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"encoding/json"
	"math"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Histogram counts values of which old ones matter less and less: after each
// half-life, half as much. Its buckets grow by 5%, as those of the Kubernetes
// vertical pod autoscaler and of Koordinator, so a percentile is at most 5% above
// the value that it stands for.
//
// It is not safe for concurrent use.
type Histogram struct {
	least    float64 // values up to it are in the first bucket
	halfLife time.Duration

	weights []float64 // by bucket
	total   float64
	ref     time.Time // when a new value weighs 1
	first   time.Time // the time of the first value
	last    time.Time
}

const (
	bucketGrowth = 1.05
	// maxBuckets is enough for 12 orders of magnitude.
	maxBuckets = 567
	// maxShift is how far the weights may grow before they are scaled back.
	maxShift = 64
)

// NewHistogram makes a histogram of values of which differences below least do
// not matter.
//
// It panics unless least and halfLife are above 0: they are the caller's
// constants.
func NewHistogram(least float64, halfLife time.Duration) *Histogram {
	if !(least > 0) || halfLife <= 0 {
		panic("elastic: a histogram needs a least value and a half-life above 0")
	}
	return &Histogram{least: least, halfLife: halfLife}
}

// Add counts value as of at. A clock that went back is taken to have stood
// still. Values that are no numbers are not counted, negative ones as 0.
func (h *Histogram) Add(value float64, at time.Time) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	if h.first.IsZero() {
		h.first, h.ref, h.last = at, at, at
	}
	if at.Before(h.last) {
		at = h.last
	}
	h.last = at
	shift := float64(at.Sub(h.ref)) / float64(h.halfLife)
	if shift > maxShift {
		scale := math.Exp2(-shift)
		for i := range h.weights {
			h.weights[i] *= scale
		}
		h.total *= scale
		h.ref, shift = at, 0
	}
	i := h.bucket(value)
	for len(h.weights) <= i {
		h.weights = append(h.weights, 0)
	}
	w := math.Exp2(shift)
	h.weights[i] += w
	h.total += w
}

// bucket is the index of the bucket of value.
func (h *Histogram) bucket(value float64) int {
	if value <= h.least {
		return 0
	}
	return min(int(math.Ceil(math.Log(value/h.least)/math.Log(bucketGrowth))), maxBuckets-1)
}

// Percentile is a value that the share q of what was counted, by weight, does not
// exceed: 0.95 is the 95th percentile. It is 0 while nothing was counted.
func (h *Histogram) Percentile(q float64) float64 {
	if h.total == 0 {
		return 0
	}
	want, sum, last := q*h.total, 0.0, 0
	for i, w := range h.weights {
		if w == 0 {
			continue
		}
		last = i
		if sum += w; sum >= want {
			break
		}
	}
	return h.least * math.Pow(bucketGrowth, float64(last))
}

// Age is how long values have been counted.
func (h *Histogram) Age() time.Duration { return h.last.Sub(h.first) }

// histogramJSON is what is kept of a histogram; times are in full, since the
// monotonic clock of this process means nothing to the next.
type histogramJSON struct {
	Least    float64         `json:"least"`
	HalfLife time.Duration   `json:"halfLifeNs"`
	Ref      time.Time       `json:"ref"`
	First    time.Time       `json:"first"`
	Last     time.Time       `json:"last"`
	Weights  map[int]float64 `json:"weights,omitempty"` // without the empty ones
}

// MarshalJSON writes the histogram whole.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{Least: h.least, HalfLife: h.halfLife, Ref: h.ref, First: h.first, Last: h.last, Weights: map[int]float64{}}
	for i, w := range h.weights {
		if w > 0 {
			j.Weights[i] = w
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what [Histogram.MarshalJSON] writes. What is no histogram
// is an error, and leaves h as it was.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	bad := func(reason string) error {
		return &cgroups.InvalidError{Field: "histogram", Value: clip(b), Reason: reason}
	}
	if !(j.Least > 0) || j.HalfLife <= 0 {
		return bad("no least value or half-life")
	}
	if j.First.After(j.Last) || j.Ref.After(j.Last) {
		return bad("its times are out of order")
	}
	n := Histogram{least: j.Least, halfLife: j.HalfLife, ref: j.Ref, first: j.First, last: j.Last}
	for i, w := range j.Weights {
		if i < 0 || i >= maxBuckets || !(w > 0) || w > math.MaxFloat64/maxBuckets {
			return bad("a bucket that cannot be")
		}
		for len(n.weights) <= i {
			n.weights = append(n.weights, 0)
		}
		n.weights[i] = w
	}
	for _, w := range n.weights {
		n.total += w
	}
	if (n.total > 0) == n.first.IsZero() {
		return bad("values without times, or times without values")
	}
	*h = n
	return nil
}

// clip is the beginning of text that came from outside.
func clip(b []byte) string {
	const most = 60
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return string(b)
}
