// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// signals are what a figure may do over time, from 0 to 1.
func signals() map[string]func(i int) float64 {
	r := rand.New(rand.NewPCG(7, 8))
	return map[string]func(i int) float64{
		"low":      func(int) float64 { return 0 },
		"constant": func(int) float64 { return 0.5 },
		"step":     func(i int) float64 { return float64(i / 100 % 2) },
		"ramp":     func(i int) float64 { return float64(i%200) / 200 },
		"sine":     func(i int) float64 { return 0.5 + 0.5*math.Sin(float64(i)/20) },
		"noise":    func(int) float64 { return r.Float64() },
	}
}

const rounds = 600

// TestCPUBurstProperties closes the loop over a service that wants 1.7 CPUs of the
// one that it asked for, on a machine as busy as the signal.
func TestCPUBurstProperties(t *testing.T) {
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p, limit, late := &CPUBurst{}, 1.0, 0
			for i := 1; i <= rounds; i++ {
				busy := signal(i)
				u := Use{ID: "web", Class: LatencyCritical, CPU: min(1.7, limit), CPUBase: 1, CPUMax: limit}
				if limit < 1.7 {
					u.Throttled = 0.5
				}
				s := shot(i, u)
				s.Machine.CPU = 8 * busy
				v, moved := cpusOf(p.Decide(s))["web"]
				if !moved {
					continue
				}
				require.True(t, v >= 1-1e-9 && v <= 3+1e-9, "between what was asked and three times: %v", v)
				require.True(t, v <= 1.2*limit+1e-4 && v >= 0.8*limit-1e-4, "in steps: from %v to %v", limit, v)
				if v > limit {
					require.Less(t, busy, 0.45, "nothing is lent on a busy machine")
				}
				if limit = v; i > rounds/2 {
					late++
				}
			}
			switch name {
			case "constant":
				assert.Zero(t, late)
			case "low":
				assert.LessOrEqual(t, late, 3*rounds/2/60, "once a minute it is tried whether less is enough, in three steps")
			}
		})
	}
}

// TestMemoryGuardProperties has the signal be the free share of memory, from 5% to
// 25%, and three sandboxes to choose from.
func TestMemoryGuardProperties(t *testing.T) {
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p := &MemoryGuard{}
			state, since, acted := map[string]Rung{}, map[string]int{}, -100
			for i := 1; i <= rounds; i++ {
				var uses []Use
				for _, id := range []string{"a", "b", "c"} {
					if state[id] != Kill {
						uses = append(uses, Use{ID: id, Class: BestEffort, Memory: 1 << 30, Frozen: state[id] == Freeze})
					}
				}
				s := shot(i, append(uses, Use{ID: "web", Class: LatencyCritical, Memory: 8 << 30})...)
				share := 0.05 + 0.2*signal(i)
				s.Machine.Free = uint64(share * float64(s.Machine.Memory))
				cs := p.Decide(s)
				require.LessOrEqual(t, len(cs), 1, "one thing at a time")
				for _, c := range cs {
					require.NotEqual(t, "web", c.Sandbox)
					require.Equal(t, c.Rung == Release, share >= 0.15, "it gives back above the one mark, and takes below the other: %v", c)
					require.True(t, c.Rung == Release || share < 0.10, "%v", c)
					switch c.Rung {
					case Freeze:
						require.NotEqual(t, Freeze, state[c.Sandbox])
					case Release:
						require.Equal(t, Freeze, state[c.Sandbox])
						require.GreaterOrEqual(t, i-since[c.Sandbox], 10, "not back at once")
					case Kill:
						require.Equal(t, Freeze, state[c.Sandbox], "only what was frozen before")
						require.GreaterOrEqual(t, i-acted, 5, "with patience")
					case Reclaim, Throttle:
						require.Equal(t, Reclaim, c.Rung)
						acted = i
						continue
					}
					state[c.Sandbox], since[c.Sandbox], acted = c.Rung, i, i
				}
			}
			if name == "constant" {
				assert.Empty(t, state, "nothing is amiss")
			}
		})
	}
}

// TestOffloadProperties has the signal be the memory stall, up to twice what is
// borne.
func TestOffloadProperties(t *testing.T) {
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p := &Offload{Period: time.Second}
			u := Use{ID: "a", Class: BestEffort, Memory: 4 << 30, MemoryMin: 1 << 30}
			for i := 1; i <= rounds; i++ {
				u.Stalls.Memory.Some = 0.002 * signal(i)
				for _, c := range p.Decide(shot(i, u)) {
					require.LessOrEqual(t, float64(c.Bytes), 0.0005*float64(u.Memory))
					require.Less(t, u.Stalls.Memory.Some, 0.001)
					u.Memory -= c.Bytes
				}
				require.GreaterOrEqual(t, u.Memory, u.MemoryMin, "what is promised stays")
			}
		})
	}
	// The more it stalls the less is taken.
	last := uint64(math.MaxUint64)
	for stall := 0.0; stall <= 0.0012; stall += 0.0001 {
		bytes := (&Offload{}).step(shot(1), &Use{ID: "a", Memory: 4 << 30, Stalls: Stalls{Memory: Stall{Some: stall}}})
		require.LessOrEqual(t, bytes, last)
		last = bytes
	}
	assert.Zero(t, last)
}

// TestIOGuardProperties has a hog that moves what it may, up to 100 MB/s, and a
// service that stalls above as many bytes a second as the signal leaves it.
func TestIOGuardProperties(t *testing.T) {
	disk := cgroups.Device{Major: 8}
	for name, signal := range signals() {
		t.Run(name, func(t *testing.T) {
			p := &IOGuard{}
			limit, turns, down := math.Inf(1), 0, false
			for i := 1; i <= rounds; i++ {
				rate := min(100e6, limit)
				svc := service(1)
				if rate > 20e6+60e6*signal(i) {
					svc.Stalls.IO.Some = 0.4
				}
				hog := Use{ID: "hog", Class: BestEffort, IO: []DeviceUse{{Device: disk, WriteBytes: rate, Limited: !math.IsInf(limit, 1)}}}
				cs := p.Decide(shot(i, hog, svc))
				require.LessOrEqual(t, len(cs), 1)
				for _, c := range cs {
					v, ok := c.Resources.IO.Devices[0].WriteBytes.Value()
					next := float64(v)
					if !ok {
						next = math.Inf(1)
					}
					require.GreaterOrEqual(t, next, float64(1<<20))
					require.Equal(t, c.Rung == Throttle, svc.Stalls.IO.Some > 0, "down while somebody stalls, and only then")
					if math.IsInf(limit, 1) || next < limit {
						require.GreaterOrEqual(t, next, 0.69*rate, "in steps")
						if !down {
							turns++
						}
						down = true
					} else {
						down = false
					}
					limit = next
				}
			}
			assert.LessOrEqual(t, turns, rounds/6, "it comes down fast and goes up slowly")
		})
	}
}
