// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shot is a snapshot of a machine with 8 CPUs and 16 GiB, n seconds from the start.
func shot(n int, uses ...Use) *Snapshot {
	s := &Snapshot{
		Time: time.Unix(1_700_000_000+int64(n), 0).UTC(), At: time.Duration(n) * time.Second, Elapsed: time.Second,
		Machine:   MachineUse{CPUs: 8, Memory: 16 << 30, Free: 8 << 30, Swap: 4 << 30, SwapFree: 4 << 30},
		Sandboxes: uses,
	}
	for _, u := range uses {
		s.Machine.CPU += u.CPU
	}
	return s
}

func service(cpu float64) Use { return Use{ID: "web", Class: LatencyCritical, CPU: cpu} }

func batch(id string, cpu, limit float64) Use {
	return Use{ID: id, Class: BestEffort, CPU: cpu, CPUMax: limit}
}

// cpusOf are the cpu.max that the corrections set, by sandbox.
func cpusOf(cs []Correction) map[string]float64 {
	m := make(map[string]float64)
	for _, c := range cs {
		if n, ok := c.Resources.CPU.Max.CPUs(); ok {
			m[c.Sandbox] = n
		}
	}
	return m
}

func TestShares(t *testing.T) {
	for _, c := range []struct {
		amount  float64
		demands []float64
		want    []float64
	}{
		{6, []float64{1, 2, 9}, []float64{1, 2, 3}},
		{6, []float64{9, 9, 9}, []float64{2, 2, 2}},
		{6, []float64{1, 1, 1}, []float64{2, 2, 2}},
		{0, []float64{1, 2}, []float64{0, 0}},
		{6, []float64{math.Inf(1), 1}, []float64{5, 1}},
		{6, nil, nil},
	} {
		assert.InDeltaSlice(t, c.want, shares(c.amount, c.demands), 1e-9, "%v", c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		demands := make([]float64, 1+r.IntN(9))
		for i := range demands {
			demands[i] = r.Float64() * 4
		}
		amount, sum := r.Float64()*16, 0.0
		for i, got := range shares(amount, demands) {
			sum += got
			for j, other := range shares(amount, demands) {
				if got > demands[i]+1e-9 && other < demands[j]-1e-9 {
					t.Fatalf("%v of %v: %d has more than it demands while %d lacks", amount, demands, i, j)
				}
			}
		}
		require.InDelta(t, amount, sum, 1e-9)
	}
}

func TestCPUSuppressTable(t *testing.T) {
	svc := func(latency, target time.Duration, load float64) Use {
		u := service(2)
		u.Service = &Service{Target: target, Latency: latency, Load: load, Samples: 100}
		return u
	}
	for name, c := range map[string]struct {
		policy CPUSuppress
		uses   []Use
		want   map[string]float64
	}{
		"what the others leave": {uses: []Use{batch("a", 3, 0), service(2)}, want: map[string]float64{"a": 0.65*8 - 2}},
		"divided by demand":     {uses: []Use{batch("a", 0.8, 2), batch("b", 2, 2), service(2)}, want: map[string]float64{"a": 1, "b": 2.2}},
		"the floor":             {uses: []Use{batch("a", 1, 0), service(7)}, want: map[string]float64{"a": 0.4}},
		"not above the base": {
			uses: []Use{{ID: "a", Class: BestEffort, CPU: 0.5, CPUMax: 0.5, CPUBase: 1}, service(1)}, want: map[string]float64{"a": 1},
		},
		"grows by a step":         {uses: []Use{batch("a", 1, 1), service(1)}, want: map[string]float64{"a": 1.8}},
		"ignores little":          {uses: []Use{batch("a", 3.2, 3.15), service(2)}, want: map[string]float64{}},
		"nobody to protect":       {uses: []Use{batch("a", 3, 0)}, want: map[string]float64{}},
		"violated":                {uses: []Use{batch("a", 4, 4), svc(12*time.Millisecond, 10*time.Millisecond, 0.5)}, want: map[string]float64{"a": 0.4}},
		"too much load":           {uses: []Use{batch("a", 4, 4), svc(time.Millisecond, 10*time.Millisecond, 0.9)}, want: map[string]float64{"a": 0.4}},
		"a frozen one has none":   {uses: []Use{{ID: "a", Class: BestEffort, Frozen: true}, service(1)}, want: map[string]float64{}},
		"services are left alone": {uses: []Use{service(6)}, want: map[string]float64{}},
	} {
		t.Run(name, func(t *testing.T) {
			cs := c.policy.Decide(shot(1, c.uses...))
			got := cpusOf(cs)
			require.Len(t, got, len(c.want), "%v", cs)
			for id, want := range c.want {
				assert.InDelta(t, want, got[id], 0.011, "%v", cs)
			}
			for _, c := range cs {
				require.NoError(t, c.Validate())
			}
		})
	}
	released := (&CPUSuppress{}).Decide(shot(1, batch("a", 1, 1)))
	require.Len(t, released, 1)
	assert.Equal(t, Release, released[0].Rung)
	assert.True(t, released[0].Resources.CPU.Max.IsMax())
	assert.Empty(t, (&CPUSuppress{}).Decide(&Snapshot{Machine: MachineUse{CPUs: 8}}), "the first snapshot has no rates")
}

// TestCPUSuppressLoop closes the loop over a simulated machine: batch work takes
// what it is given, the service follows a load of its own.
func TestCPUSuppressLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	loads := map[string]func(i int) float64{
		"constant": func(int) float64 { return 2 },
		"step":     func(i int) float64 { return []float64{1, 4}[i/100%2] },
		"ramp":     func(i int) float64 { return 6 * float64(i%200) / 200 },
		"sine":     func(i int) float64 { return 2.5 + 2*math.Sin(float64(i)/20) },
		"noise":    func(int) float64 { return 2 + r.Float64() },
	}
	for name, load := range loads {
		t.Run(name, func(t *testing.T) {
			p := &CPUSuppress{}
			limits := map[string]float64{"a": 0, "b": 0}
			changes := 0
			for i := 1; i <= 400; i++ {
				svc := load(i)
				uses := []Use{service(svc)}
				for _, id := range []string{"a", "b"} {
					uses = append(uses, batch(id, min(cmp.Or(limits[id], 8), (8-svc)/2), limits[id]))
				}
				slices.SortFunc(uses, func(a, b Use) int { return strings.Compare(a.ID, b.ID) })
				s := shot(i, uses...)
				for id, cpus := range cpusOf(p.Decide(s)) {
					limits[id] = cpus
					changes++
				}
				sum := limits["a"] + limits["b"]
				require.LessOrEqual(t, sum, 8.0)
				require.GreaterOrEqual(t, sum, 0.4-0.001, "the floor")
				if i > 3 {
					require.LessOrEqual(t, sum, max(0.4, 0.65*8-svc)+0.17, "round %d: more than the service leaves", i)
				}
				if name == "constant" && i == 50 {
					changes = 0
				}
			}
			if name == "constant" {
				assert.Zero(t, changes, "a constant load and it still moves")
			}
		})
	}
}

// TestCPUSuppressRests has others and batch work use more and less at random from
// one snapshot to the next: limits move seldom, and are never more than there is.
func TestCPUSuppressRests(t *testing.T) {
	for _, noise := range []float64{0, 0.05, 0.2, 1} { // CPUs, of 8
		r := rand.New(rand.NewPCG(9, uint64(100*noise)))
		p := &CPUSuppress{}
		limits := map[string]float64{"a": 0, "b": 0}
		moved := 0
		for i := 1; i <= 600; i++ {
			svc := 2 + noise*r.Float64()
			hungry := min(8-svc-1, cmp.Or(limits["a"], 8))
			rests := min(0.5+noise*r.Float64(), cmp.Or(limits["b"], 8))
			cs := p.Decide(shot(i, batch("a", hungry, limits["a"]), batch("b", rests, limits["b"]), service(svc)))
			for id, cpus := range cpusOf(cs) {
				limits[id] = cpus
			}
			if len(cs) > 0 && i > 100 {
				moved++
			}
			require.LessOrEqual(t, limits["a"]+limits["b"], 0.65*8-svc+0.17)
		}
		t.Logf("noise of %v CPUs: moved in %d of 500", noise, moved)
		assert.LessOrEqual(t, moved, 500/10, "noise of %v CPUs", noise)
		assert.GreaterOrEqual(t, limits["a"], 1.0, "who wants more gets what is left")
	}
}

// TestCPUSuppressSlack closes the loop over a service whose latency grows with
// what batch work gets, and after a while grows faster: batch work must come to
// rest within the target, near it, both times, and never lose everything.
func TestCPUSuppressSlack(t *testing.T) {
	const target = 10 * time.Millisecond
	for name, noise := range map[string]float64{"still": 0, "noisy": 0.04} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 8))
			p := &CPUSuppress{Share: 1, Cooloff: 5 * time.Second}
			limit, late, least := 0.0, 0, math.Inf(1)
			for i := 1; i <= 900; i++ {
				given := cmp.Or(limit, 0.4)
				slope := 1.2 // violated above 5 CPUs
				if i > 600 {
					slope = 1.8 // above 3.3
				}
				u := service(1)
				latency := time.Duration((4 + slope*given) * (1 + noise*r.NormFloat64()) * float64(time.Millisecond))
				u.Service = &Service{Target: target, Latency: latency, Load: 0.5, Samples: 50}
				if latency > target && i%600 > 10 { // not just after the change
					late++
				}
				if v, ok := cpusOf(p.Decide(shot(i, batch("a", given, limit), u)))["a"]; ok {
					limit = v
				}
				switch {
				case i == 600:
					assert.Greater(t, limit, 3.0, "it uses what the service can bear")
					assert.Less(t, limit, 5.0)
				case i > 600:
					least = min(least, limit)
				}
			}
			t.Logf("late in %d, %.2f CPUs at least, %.2f in the end", late, least, limit)
			if noise == 0 {
				assert.Zero(t, late)
			}
			assert.Less(t, late, 900/10)
			assert.Greater(t, least, 0.8, "the cut is in proportion")
			assert.Greater(t, limit, 2.0)
			assert.Less(t, limit, 3.4)
		})
	}
}

func TestCPUBurst(t *testing.T) {
	use := func(limit, throttled float64) Use {
		return Use{ID: "web", Class: LatencyCritical, CPU: 1, CPUBase: 1, CPUMax: limit, Throttled: throttled}
	}
	p := &CPUBurst{}
	assert.InDelta(t, 1.2, cpusOf(p.Decide(shot(1, use(1, 0.3))))["web"], 1e-9)
	assert.InDelta(t, 3, cpusOf(p.Decide(shot(2, use(2.9, 0.3))))["web"], 1e-9, "not above three times")
	assert.Empty(t, p.Decide(shot(3, use(2, 0))))
	busy := shot(4, use(2, 0.5))
	busy.Machine.CPU = 6
	assert.InDelta(t, 1.6, cpusOf(p.Decide(busy))["web"], 1e-9, "others need it")
	cooling := shot(5, use(2, 0.5))
	cooling.Machine.CPU = 3.8
	assert.Empty(t, p.Decide(cooling))
	assert.InDelta(t, 1.6, cpusOf(p.Decide(shot(66, use(2, 0))))["web"], 1e-9, "quiet for a minute")
	assert.Empty(t, p.Decide(shot(67, use(1, 0))), "never below what was asked")
	assert.Empty(t, p.Decide(shot(68, Use{ID: "web", Class: LatencyCritical, CPU: 1})), "nothing to scale")
}

func TestOffload(t *testing.T) {
	use := Use{ID: "a", Class: BestEffort, Memory: 1 << 30, File: 100 << 20}
	p := &Offload{Ratio: 0.01, Period: 2 * time.Second}
	assert.Empty(t, p.Decide(shot(1, use)), "a first look")
	assert.Empty(t, p.Decide(shot(2, use)))
	cs := p.Decide(shot(3, use))
	require.Len(t, cs, 1)
	assert.Equal(t, Reclaim, cs[0].Rung)
	assert.InDelta(t, float64(1<<30)/100, float64(cs[0].Bytes), pageSize)
	require.NoError(t, cs[0].Validate())

	half := use
	half.Stalls.Memory.Some = 0.0005
	p.Decide(shot(4, half))
	cs = p.Decide(shot(5, half))
	require.Len(t, cs, 1)
	assert.InDelta(t, float64(1<<30)/200, float64(cs[0].Bytes), pageSize, "half the bearable stall, half the step")

	stalled := use
	stalled.Stalls.Memory.Some = 0.002
	assert.Empty(t, p.Decide(shot(7, stalled)))

	promised := use
	promised.MemoryMin = use.Memory
	assert.Empty(t, p.Decide(shot(9, promised)), "what is promised is not taken")

	noSwap := shot(11, Use{ID: "a", Class: BestEffort, Memory: 1 << 30, File: 1 << 20})
	noSwap.Machine.SwapFree = 0
	cs = p.Decide(noSwap)
	require.Len(t, cs, 1)
	assert.EqualValues(t, 1<<20, cs[0].Bytes, "without swap there are only file pages")

	back := use
	back.Refaults = 10000
	assert.Empty(t, p.Decide(shot(13, back)), "what was taken came back")
	assert.Empty(t, p.Decide(shot(20, use)), "a pause")
	assert.NotEmpty(t, p.Decide(shot(33, use)))
}

func TestMemoryGuard(t *testing.T) {
	p := &MemoryGuard{}
	low := func(n int, uses ...Use) *Snapshot {
		s := shot(n, uses...)
		s.Machine.Free = 1 << 30
		return s
	}
	a := Use{ID: "a", Class: BestEffort, Memory: 4 << 30}
	b := Use{ID: "b", Class: BestEffort, Memory: 2 << 30, Growth: 50 << 20}
	web := Use{ID: "web", Class: LatencyCritical, Memory: 8 << 30}
	step := func(s *Snapshot) Correction {
		t.Helper()
		cs := p.Decide(s)
		if len(cs) == 0 {
			return Correction{}
		}
		require.Len(t, cs, 1)
		require.NoError(t, cs[0].Validate())
		return cs[0]
	}
	assert.Zero(t, step(shot(1, a, b, web)).Rung)
	c := step(low(2, a, b, web))
	assert.Equal(t, Reclaim, c.Rung)
	assert.Equal(t, "a", c.Sandbox, "the largest")
	assert.Contains(t, c.Reason, "6.2% of the memory is free")
	assert.Zero(t, step(low(4, a, b, web)).Rung, "patience")
	c = step(low(7, a, b, web))
	assert.Equal(t, Freeze, c.Rung)
	assert.Equal(t, "b", c.Sandbox, "who grows goes first")
	b.Frozen = true
	c = step(low(12, a, b, web))
	assert.Equal(t, Freeze, c.Rung)
	assert.Equal(t, "a", c.Sandbox)
	a.Frozen = true
	c = step(low(17, a, b, web))
	assert.Equal(t, Kill, c.Rung)
	assert.Equal(t, "b", c.Sandbox, "who was frozen first")
	assert.Contains(t, c.Reason, "freezing did not help")
	// Enough again: after a while of calm the other one goes on.
	for n := 18; n < 28; n++ {
		assert.Zero(t, step(shot(n, a, web)).Rung)
	}
	c = step(shot(28, a, web))
	assert.Equal(t, Release, c.Rung)
	assert.Equal(t, "a", c.Sandbox)

	stalls := web
	stalls.Stalls.Memory.Some = 0.3
	c = step(shot(60, Use{ID: "a", Class: BestEffort, Memory: 1 << 30}, stalls))
	assert.Equal(t, Reclaim, c.Rung)
	assert.Contains(t, c.Reason, "web stalls 30% of the time for memory")

	never := &MemoryGuard{NoKill: true}
	for n := 1; n < 100; n++ {
		for _, c := range never.Decide(low(n, Use{ID: "a", Class: BestEffort, Memory: 1 << 30, Frozen: n > 8}, web)) {
			require.NotEqual(t, Kill, c.Rung)
		}
	}
}

func TestIOGuard(t *testing.T) {
	disk := cgroups.Device{Major: 8}
	slow := service(1)
	slow.Stalls.IO.Some = 0.4
	hog := func(rate float64) Use {
		return Use{ID: "hog", Class: BestEffort, IO: []DeviceUse{{Device: disk, WriteBytes: rate}}}
	}
	p := &IOGuard{}
	// The hog takes what it may have; the service stalls above 20 MiB/s.
	rate, limit, lifted := 100e6, math.Inf(1), 0
	for n := 1; n <= 120; n++ {
		svc := service(1)
		if min(rate, limit) > 20<<20 {
			svc = slow
		}
		for _, c := range p.Decide(shot(n, hog(min(rate, limit)), svc)) {
			require.NoError(t, c.Validate())
			v, ok := c.Resources.IO.Devices[0].WriteBytes.Value()
			if limit = float64(v); !ok {
				limit = math.Inf(1)
				lifted++
			}
			require.GreaterOrEqual(t, limit, 1e6)
		}
		if n > 8 {
			require.Less(t, limit, 1.3*float64(20<<20), "round %d", n)
		}
	}
	assert.Zero(t, lifted, "not while it still wants to")
	for n := 121; n <= 220; n++ {
		for _, c := range p.Decide(shot(n, hog(1000), service(1))) {
			if c.Resources.IO.Devices[0].WriteBytes.IsMax() {
				lifted++
			}
		}
	}
	assert.Equal(t, 1, lifted, "lifted once it is over")
	assert.Empty(t, p.Decide(shot(221, hog(1000), service(1))))
	assert.Empty(t, p.Decide(shot(222, hog(1000), slow)), "it is not the hog")
}

// TestIOGuardCost has one sandbox stream and another read at random: where io.cost
// says what that costs the disk, the second one is limited, in operations too.
func TestIOGuardCost(t *testing.T) {
	disk := cgroups.Device{Major: 8}
	slow := service(1)
	slow.Stalls.IO.Some = 0.4
	uses := func(cost float64) []Use {
		return []Use{
			{ID: "random", Class: BestEffort, IO: []DeviceUse{{Device: disk, ReadBytes: 512 << 10, Ops: 128, Cost: cost}}},
			{ID: "stream", Class: BestEffort, IO: []DeviceUse{{Device: disk, ReadBytes: 100 << 20, Ops: 400, Cost: cost / 4}}},
			slow,
		}
	}
	p := &IOGuard{}
	for n, want := range []float64{0.7, 0.49} {
		list := uses(0.8)
		if n > 0 {
			list[0].IO[0].ReadBytes *= 0.7
		}
		cs := p.Decide(shot(n+1, list...))
		require.Len(t, cs, 1)
		require.NoError(t, cs[0].Validate())
		assert.Equal(t, "random", cs[0].Sandbox)
		assert.Contains(t, cs[0].Reason, "random takes the most of 8:0, 80% of its time")
		d := cs[0].Resources.IO.Devices[0]
		ops, _ := d.ReadOps.Value()
		assert.InDelta(t, 128*want, float64(ops), 1)
	}
	cs := (&IOGuard{}).Decide(shot(1, uses(0)...))
	require.Len(t, cs, 1)
	assert.Equal(t, "stream", cs[0].Sandbox, "the bytes count where nothing else is known")
	ops, _ := cs[0].Resources.IO.Devices[0].WriteOps.Value()
	assert.EqualValues(t, 280, ops)
}

// TestPoliciesAreBounded throws nonsense at all policies: whatever they are
// shown, what they want is valid, and never of somebody above best effort but for
// more CPU.
func TestPoliciesAreBounded(t *testing.T) {
	testutil.Require(t, testutil.Real)
	r := rand.New(rand.NewPCG(5, 6))
	number := func() float64 {
		return []float64{0, 0, r.Float64(), r.Float64() * 8, r.Float64() * 1e12}[r.IntN(5)]
	}
	planner, err := NewPlanner(append(Defaults(), &Offload{Classes: []Class{BestEffort, Standard, LatencyCritical}}), 0)
	require.NoError(t, err)
	corrections, refused := 0, 0
	for n := 1; n <= 5000; n++ {
		var uses []Use
		for i := range r.IntN(6) {
			uses = append(uses, Use{
				ID: fmt.Sprintf("s%d", i), Class: Class(r.IntN(3)), Frozen: r.IntN(4) == 0,
				CPU: number(), CPUMax: min(number(), 100), CPUBase: min(number(), 100), Throttled: min(number(), 1),
				Memory: uint64(number()), MemoryMin: uint64(number()), File: uint64(number()), Growth: number() - number(), Refaults: number(),
				IO:     []DeviceUse{{Device: cgroups.Device{Major: 8, Minor: uint32(r.IntN(2))}, ReadBytes: number(), WriteBytes: number()}},
				Stalls: Stalls{CPU: Stall{Some: min(number(), 1)}, Memory: Stall{Some: min(number(), 1)}, IO: Stall{Some: min(number(), 1)}},
			})
			if r.IntN(3) == 0 {
				uses[i].Service = &Service{Target: time.Duration(number()), Latency: time.Duration(number()), Load: min(number(), 1), Samples: r.IntN(2)}
			}
		}
		s := shot(n, uses...)
		s.Machine.CPU = number()
		s.Machine.Free = uint64(number())
		for _, c := range planner.Plan(s) {
			corrections++
			require.NoError(t, c.Validate(), "%v", c)
			require.NotContains(t, c.Reason, "NaN")
			if c.Refused != "" {
				refused++
				continue
			}
			u := s.Find(c.Sandbox)
			require.NotNil(t, u)
			if u.Class != BestEffort && c.Rung > Throttle {
				require.Equal(t, Reclaim, c.Rung)
			}
			if n, ok := c.Resources.CPU.Max.CPUs(); ok && u.Class == LatencyCritical {
				require.GreaterOrEqual(t, n, u.CPUBase-0.006)
			}
			if u.Class == Standard {
				require.Equal(t, Reclaim, c.Rung)
			}
		}
	}
	assert.Greater(t, corrections, 1000)
	assert.Less(t, refused, corrections/2)
}
