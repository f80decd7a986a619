// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

func TestHistogramPercentile(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		h := NewHistogram(0.01, 1e6*time.Hour) // nothing decays
		var values []float64
		for i := range 500 {
			v := math.Exp(r.NormFloat64() * 2)
			values = append(values, v)
			h.Add(v, epoch.Add(time.Duration(i)*time.Second))
		}
		slices.Sort(values)
		for _, q := range []float64{0.5, 0.9, 0.95, 0.99, 1} {
			rank := int(math.Ceil(q * 500))
			exact, next := values[rank-1], values[min(rank, 499)] // later values weigh a little more
			got := h.Percentile(q)
			require.GreaterOrEqual(t, got, exact*0.999, "q %v", q)
			require.LessOrEqual(t, got, max(next*bucketGrowth, 0.01)*1.001, "q %v", q)
		}
	}
}

func TestHistogramDecays(t *testing.T) {
	h := NewHistogram(0.01, time.Hour)
	assert.Zero(t, h.Percentile(0.95))
	for i := range 100 {
		h.Add(8, epoch.Add(time.Duration(i)*time.Minute))
	}
	// After ten half-lives of something else the old values are 0.1%.
	for i := range 600 {
		h.Add(1, epoch.Add(100*time.Minute+time.Duration(i)*time.Minute))
	}
	assert.InDelta(t, 1, h.Percentile(0.95), 0.05)
	assert.InDelta(t, 8, h.Percentile(1), 0.4)
	// Far beyond what a float holds without scaling back.
	for i := range 100 {
		h.Add(2, epoch.Add(time.Duration(i)*1000*time.Hour))
	}
	assert.InDelta(t, 2, h.Percentile(0.5), 0.1)
	assert.False(t, math.IsInf(h.total, 0))
	h.Add(math.NaN(), epoch)
	h.Add(math.Inf(1), epoch)
	h.Add(-1, epoch) // long ago: counted as now
	assert.InDelta(t, 0.01, h.Percentile(0), 1e-9)
}

func TestHistogramJSON(t *testing.T) {
	h := NewHistogram(0.5, time.Hour)
	for i := range 100 {
		h.Add(float64(i), epoch.Add(time.Duration(i)*time.Minute))
	}
	b, err := json.Marshal(h)
	require.NoError(t, err)
	var back Histogram
	require.NoError(t, json.Unmarshal(b, &back))
	for _, q := range []float64{0.1, 0.5, 0.95, 1} {
		assert.Equal(t, h.Percentile(q), back.Percentile(q))
	}
	assert.Equal(t, h.Age(), back.Age())
	for _, bad := range []string{
		`{}`, `[]`, `{"least":1,"halfLifeNs":0}`, `{"least":-1,"halfLifeNs":5}`,
		`{"least":1,"halfLifeNs":5,"weights":{"-1":1}}`, `{"least":1,"halfLifeNs":5,"weights":{"9999":1}}`,
		`{"least":1,"halfLifeNs":5,"weights":{"1":-1}}`, `{"least":1,"halfLifeNs":5,"weights":{"1":1}}`,
	} {
		before := back.Percentile(0.5)
		require.Error(t, json.Unmarshal([]byte(bad), &back), bad)
		assert.Equal(t, before, back.Percentile(0.5))
	}
}

func FuzzHistogramJSON(f *testing.F) {
	h := NewHistogram(1, time.Hour)
	h.Add(5, epoch)
	b, _ := json.Marshal(h)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Histogram
		if err := json.Unmarshal(b, &h); err != nil {
			require.Zero(t, h.total)
			return
		}
		v := h.Percentile(0.95)
		require.False(t, math.IsNaN(v) || math.IsInf(v, 0) || v < 0)
		again, err := json.Marshal(&h)
		require.NoError(t, err)
		var back Histogram
		require.NoError(t, json.Unmarshal(again, &back))
		require.Equal(t, v, back.Percentile(0.95))
	})
}

func TestEstimator(t *testing.T) {
	e := NewEstimator(EstimatorConfig{ColdStart: time.Hour, Young: time.Minute})
	assert.Zero(t, e.Revocable())
	second := func(n int) *Snapshot {
		svc := service(2)
		svc.CPUBase = 4
		svc.Memory = 4 << 30
		if n%100 == 50 {
			svc.CPU = 3
		}
		s := shot(n, batch("a", 3, 0), svc)
		s.Machine.Free = 12 << 30
		return s
	}
	e.Observe(second(1))
	young := e.Revocable()
	assert.InDelta(t, 8-2*1.1-2, young.CPU, 0.2, "a young service counts with what it asked for")
	for n := 2; n <= 1800; n++ {
		e.Observe(second(n))
	}
	o := e.Revocable()
	assert.InDelta(t, 8-2*1.1*1.05, o.CPU, 0.15)
	assert.InDelta(t, 0.5, o.Confidence, 0.01)
	assert.InDelta(t, float64(16<<30)-float64(4<<30)*1.1, float64(o.Memory), float64(4<<30)*0.06)
	assert.Contains(t, o.Reason, "of 8 CPUs the others need")

	// The peak counts at once, whatever the percentile says.
	peak := second(1801)
	peak.Sandboxes[1].CPU, peak.Machine.CPU = 5, 8
	e.Observe(peak)
	assert.InDelta(t, 8-5*1.1, e.Revocable().CPU, 0.01)

	b, err := json.Marshal(e)
	require.NoError(t, err)
	next := NewEstimator(EstimatorConfig{ColdStart: time.Hour, Young: time.Minute})
	require.NoError(t, json.Unmarshal(b, next))
	next.Observe(second(1802))
	e.Observe(second(1802))
	assert.Equal(t, e.Revocable(), next.Revocable())

	other := NewEstimator(EstimatorConfig{CPUHalfLife: time.Minute})
	require.ErrorIs(t, json.Unmarshal(b, other), cgroups.ErrInvalid)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"version":2}`), next), cgroups.ErrInvalid)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"version":1}`), next), cgroups.ErrInvalid)
}
