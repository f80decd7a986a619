// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMonitorGrades(t *testing.T) {
	m := NewMonitor(MonitorConfig{})
	stalled := func(n int, some float64) *Snapshot {
		u := service(1)
		u.Stalls.Memory.Some = some
		return shot(n, Use{ID: "a", Class: BestEffort, Growth: 30}, Use{ID: "b", Class: BestEffort, Growth: 10}, u)
	}
	assert.Empty(t, m.Observe(stalled(1, 0.04)))
	rs := m.Observe(stalled(2, 0.3))
	require.Len(t, rs, 1)
	assert.Equal(t, "web: memory-short is high (0.30), was fine; a 75%, b 25%", rs[0].String())
	assert.Empty(t, m.Observe(stalled(3, 0.25)), "the same grade")
	rs = m.Observe(stalled(4, 0.6))
	require.Len(t, rs, 1)
	assert.Equal(t, Critical, rs[0].Grade)
	// Downwards: not at once, and not by a little.
	assert.Empty(t, m.Observe(stalled(5, 0.45)), "0.45 is not below 0.7 of 0.5")
	for n := 6; n < 11; n++ {
		assert.Empty(t, m.Observe(stalled(n, 0.01)))
	}
	rs = m.Observe(stalled(11, 0.01))
	require.Len(t, rs, 1)
	assert.Equal(t, Fine, rs[0].Grade)
	assert.Equal(t, Critical, rs[0].From)
	assert.Empty(t, rs[0].Suspects)
}

func TestMonitorTroubles(t *testing.T) {
	u := service(1)
	u.Throttled, u.Refaults, u.Stalls.IO.Some, u.Stalls.CPU.Some = 0.3, 2000, 0.3, 0.3
	u.Service = &Service{Target: 10 * time.Millisecond, Latency: 13 * time.Millisecond, Samples: 1}
	s := shot(1, batch("a", 3, 0), u)
	s.Machine.Stalls.CPU.Some = 0.6
	got := make(map[Trouble]Grade)
	for _, r := range NewMonitor(MonitorConfig{}).Observe(s) {
		if r.Who == "" {
			assert.Equal(t, CPUShort, r.Trouble)
			assert.Equal(t, Critical, r.Grade)
			require.Len(t, r.Suspects, 2)
			assert.Equal(t, "a", r.Suspects[0].ID)
			continue
		}
		got[r.Trouble] = r.Grade
		switch r.Trouble {
		case Throttled:
			assert.Empty(t, r.Suspects, "its own doing")
		case CPUShort, ServiceSlow:
			require.Len(t, r.Suspects, 1)
			assert.Equal(t, "a", r.Suspects[0].ID)
		default:
			assert.Empty(t, r.Suspects, "nobody moves any")
		}
	}
	assert.Equal(t, map[Trouble]Grade{Throttled: High, CPUShort: High, IOShort: High, Refaulting: High, ServiceSlow: High}, got)
}

// TestMonitorDoesNotFlicker has a figure swing around each bound.
func TestMonitorDoesNotFlicker(t *testing.T) {
	for _, bound := range []float64{0.05, 0.20, 0.50} {
		m := NewMonitor(MonitorConfig{})
		reports := 0
		for n := 1; n <= 600; n++ {
			u := service(1)
			u.Stalls.IO.Some = bound * (1 + 0.2*math.Sin(float64(n)))
			reports += len(m.Observe(shot(n, u)))
		}
		assert.LessOrEqual(t, reports, 2, "bound %v", bound)
	}
}
