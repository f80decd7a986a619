// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// holds is a latency-critical sandbox with so much memory, some of it cold, and so
// much protected.
func holds(id string, memory, cold, low uint64) Use {
	return Use{ID: id, Class: LatencyCritical, Memory: memory, Cold: cold, MemoryLow: cgroups.Bytes(low)}
}

func lows(cs []Correction) map[string]uint64 {
	m := make(map[string]uint64)
	for _, c := range cs {
		m[c.Sandbox], _ = c.Resources.Memory.Low.Value()
	}
	return m
}

func TestMemoryProtectTable(t *testing.T) {
	const gib = 1 << 30
	with := func(u Use, change func(*Use)) Use { change(&u); return u }
	stalls := func(u *Use) { u.Stalls.Memory.Some = 0.01 }
	refaults := func(u *Use) { u.Refaults = 1 }
	for name, c := range map[string]struct {
		uses []Use
		want map[string]uint64
		rung Rung
	}{
		"what it works with":          {[]Use{holds("web", 3*gib, gib, 0)}, map[string]uint64{"web": 2 * gib}, Throttle},
		"as it is":                    {[]Use{holds("web", 3*gib, gib, 2*gib)}, nil, 0},
		"nearly as it is":             {[]Use{holds("web", 3*gib, gib, 2*gib-gib/8)}, nil, 0},
		"little":                      {[]Use{holds("web", 12<<20, 0, 0)}, nil, 0},
		"less":                        {[]Use{holds("web", gib, 0, 2*gib)}, map[string]uint64{"web": gib}, Release},
		"less, since it was squeezed": {[]Use{with(holds("web", gib, 0, 2*gib), refaults)}, nil, 0},
		"less, and squeezed still":    {[]Use{with(holds("web", gib, 0, 2*gib), stalls)}, nil, 0},
		"more, while it is squeezed":  {[]Use{with(holds("web", gib, 0, 0), stalls)}, map[string]uint64{"web": gib}, Throttle},
		"no such knob":                {[]Use{{ID: "web", Class: LatencyCritical, Memory: gib}}, nil, 0},
		"its owner's": {
			[]Use{with(holds("web", gib, 0, 5), func(u *Use) { u.MemoryLowBase = cgroups.Bytes(5) })}, nil, 0,
		},
		"said to the kernel": {[]Use{with(holds("web", gib, 0, 0), func(u *Use) { u.MemoryLow = cgroups.Max() })}, nil, 0},
		"frozen":             {[]Use{with(holds("web", gib, 0, 0), func(u *Use) { u.Frozen = true })}, nil, 0},
		"of 16 GiB, 12.8 for all": {
			[]Use{holds("a", 12*gib, 0, 0), holds("b", 4*gib, 0, 0)},
			map[string]uint64{"a": 12 * gib / 16 * 128 / 10 &^ 4095, "b": 4 * gib / 16 * 128 / 10 &^ 4095}, Throttle,
		},
		"what owners have is off that": {
			[]Use{
				holds("a", 8*gib, 0, 0),
				with(holds("b", 8*gib, 0, 8*gib), func(u *Use) { u.MemoryLowBase = cgroups.Bytes(8 * gib) }),
			},
			map[string]uint64{"a": 48 * gib / 10 &^ 4095}, Throttle,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cs := (&MemoryProtect{}).Decide(shot(1, c.uses...))
			got := lows(cs)
			require.Len(t, got, len(c.want), "%v", cs)
			for id, want := range c.want {
				assert.InDelta(t, want, got[id], 4096, "%v", cs)
			}
			for _, made := range cs {
				require.NoError(t, made.Validate())
				assert.Equal(t, c.rung, made.Rung)
			}
		})
	}
	planner, err := NewPlanner([]Policy{&MemoryProtect{}}, 0)
	require.NoError(t, err)
	for _, p := range planner.Plan(shot(1, holds("web", gib, 0, 0))) {
		assert.Empty(t, p.Refused)
	}
}

// TestMemoryProtectProperties has two services work with what the signal says, 0 to 8
// GiB each, of 16 GiB.
func TestMemoryProtectProperties(t *testing.T) {
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p, low, late := &MemoryProtect{}, map[string]uint64{}, 0
			for i := 1; i <= rounds; i++ {
				works := uint64(signal(i) * (8 << 30))
				cs := p.Decide(shot(i, holds("a", works+1<<30, 1<<30, low["a"]), holds("b", works, 0, low["b"])))
				for id, v := range lows(cs) {
					require.LessOrEqual(t, v, works, "no more than it works with")
					if low[id] = v; i > rounds/2 {
						late++
					}
				}
				require.LessOrEqual(t, float64(low["a"]+low["b"]), 1.1*0.8*(16<<30), "not all of the machine")
				require.GreaterOrEqual(t, float64(low["a"])+16<<20+1, 0.9*min(float64(works), 0.4*(16<<30))-4096, "within a step of it")
			}
			if name == "constant" || name == "low" {
				assert.Zero(t, late)
			}
		})
	}
}
