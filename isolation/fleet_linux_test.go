// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program is a process that is a child of this test binary.
func program(t *testing.T, child string, args ...string) isolation.Process {
	t.Helper()
	return spec(t, "any", child, args...).Process
}

func TestClassComesWithLimits(t *testing.T) {
	h := open(t)
	limits := func(spec isolation.Spec) (cgroups.Resources, isolation.Status) {
		t.Helper()
		spec.Process = program(t, "wait")
		sb, err := h.Create(deadline(t), spec)
		require.NoError(t, err)
		r, err := sb.Limits()
		require.NoError(t, err)
		st, err := sb.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, spec.Resources, sb.Spec().Resources, "the owner asked for nothing more")
		return r, st
	}
	weight := func(r cgroups.Resources) uint16 { n, _ := r.CPU.Weight.Value(); return n }

	r, st := limits(isolation.Spec{ID: "std"})
	assert.EqualValues(t, 100, weight(r))
	assert.Empty(t, st.Missing)
	r, _ = limits(isolation.Spec{ID: "web", Class: elastic.LatencyCritical})
	assert.EqualValues(t, 1000, weight(r))
	r, _ = limits(isolation.Spec{
		ID: "own", Class: elastic.LatencyCritical, Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(50)}},
	})
	assert.EqualValues(t, 50, weight(r), "the spec has the last word")

	// Best effort is one group to everybody else, and ranked by weight in it.
	r, _ = limits(isolation.Spec{ID: "batch", Class: elastic.BestEffort})
	assert.EqualValues(t, 100, weight(r))
	assert.NotEqual(t, cgroups.On, r.CPU.Idle)
	r, _ = limits(isolation.Spec{
		ID: "more", Class: elastic.BestEffort, Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(200)}},
	})
	assert.EqualValues(t, 200, weight(r))
	all, err := h.Root().Open(h.Parent().Path() + "/_best-effort")
	require.NoError(t, err)
	defer all.Close()
	r, err = all.Resources()
	require.NoError(t, err)
	assert.True(t, r.CPU.Idle == cgroups.On || weight(r) == 1, "%v", r.CPU)
	for _, id := range []string{"batch", "more"} {
		g, err := h.Root().Open(all.Path() + "/" + id)
		require.NoError(t, err)
		require.NoError(t, g.Close())
	}

	_, err = h.Create(deadline(t), isolation.Spec{ID: "x", Class: 9, Process: program(t, "wait")})
	require.ErrorIs(t, err, isolation.ErrInvalid)
}

func TestTargets(t *testing.T) {
	h := open(t)
	sb := create(t, h, isolation.Spec{ID: "a", Class: elastic.BestEffort, Process: program(t, "wait")})
	targets := slices.Collect(h.Targets())
	require.Len(t, targets, 1)
	assert.Same(t, sb, targets[0])
	assert.Equal(t, elastic.BestEffort, targets[0].Class())

	// Who wants to know hears of each more, until he does not any more.
	var heard, other int
	stop, stopOther := h.Announce(func() { heard++ }), h.Announce(func() { other++ })
	create(t, h, isolation.Spec{ID: "b", Process: program(t, "wait")})
	_, err := h.Create(deadline(t), isolation.Spec{ID: "b/", Process: program(t, "wait")})
	require.ErrorIs(t, err, isolation.ErrInvalid)
	stopOther()
	create(t, h, isolation.Spec{ID: "c", Process: program(t, "wait")})
	stop()
	create(t, h, isolation.Spec{ID: "d", Process: program(t, "wait")})
	assert.Equal(t, [2]int{2, 1}, [2]int{heard, other})

	assert.Nil(t, sb.Service())
	sb.Report(elastic.Service{Target: time.Second, Latency: time.Millisecond, Samples: 3})
	assert.Equal(t, &elastic.Service{Target: time.Second, Latency: time.Millisecond, Samples: 3}, sb.Service())

	require.NoError(t, sb.Start(deadline(t)))
	require.NoError(t, sb.Freeze(deadline(t)))
	frozen, err := sb.Frozen()
	require.NoError(t, err)
	assert.True(t, frozen)
	require.NoError(t, sb.Kill(deadline(t)), "also a frozen one")
	exit, err := sb.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 9, exit.Signal)
	st, err := sb.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateExited, st.State, "killed is not destroyed")
}

// TestControllerSuppresses has a controller find a best-effort sandbox that takes
// all it can get, and hold it to its share.
func TestControllerSuppresses(t *testing.T) {
	testutil.Require(t, testutil.EachKernel)
	h := open(t)
	web := create(t, h, isolation.Spec{ID: "web", Class: elastic.LatencyCritical, Process: program(t, "wait")})
	batch := create(t, h, isolation.Spec{ID: "batch", Class: elastic.BestEffort, Process: program(t, "spin")})
	require.NoError(t, web.Start(deadline(t)))
	require.NoError(t, batch.Start(deadline(t)))
	var made []elastic.Decision
	ctl, err := elastic.New(h, elastic.Config{
		Policies:   []elastic.Policy{&elastic.CPUSuppress{Share: 0.01, Floor: 0.1}},
		OnDecision: func(d elastic.Decision) { made = append(made, d) },
	})
	require.NoError(t, err)
	step := func() {
		t.Helper()
		time.Sleep(100 * time.Millisecond) // a span to measure over
		require.NoError(t, ctl.Step(context.Background()))
	}
	step()
	assert.Empty(t, made, "the first look has no rates")
	step()
	require.NotEmpty(t, made)
	assert.Equal(t, elastic.Made, made[0].State, "%v", made[0])
	assert.Equal(t, "batch", made[0].Sandbox)
	cpus := func() float64 {
		r, err := batch.Limits()
		require.NoError(t, err)
		n, _ := r.CPU.Max.CPUs()
		return n
	}
	assert.InDelta(t, 0.1, cpus(), 0.001)
	assert.True(t, batch.Asked().CPU.Max.IsZero(), "what its owner asked for stays")

	// What the owner asks for meanwhile counts later.
	_, err = batch.Update(deadline(t), cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(1.5)}})
	require.NoError(t, err)
	assert.InDelta(t, 0.1, cpus(), 0.001)
	st, err := batch.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Drift)
	require.Len(t, st.Claims, 1)
	assert.Equal(t, []string{"cpu.max"}, st.Claims[0].Holds)

	// Its usage follows, whatever else the machine does.
	before, start := cpuTime(t, batch), time.Now()
	time.Sleep(testutil.Patience(500 * time.Millisecond))
	assert.Less(t, (cpuTime(t, batch)-before).Seconds()/time.Since(start).Seconds(), 0.35)

	// With nobody left to protect it is let go.
	require.NoError(t, web.Destroy(deadline(t)))
	step()
	step()
	assert.InDelta(t, 1.5, cpus(), 0.001)
	assert.Equal(t, elastic.Release, made[len(made)-1].Rung)
	st, err = batch.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Claims)
}

// TestControllerKeepsCPUs has a controller keep all best effort off the CPU that its
// owner has given a service.
func TestControllerKeepsCPUs(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	h := open(t)
	batch := started(t, h, isolation.Spec{ID: "batch", Class: elastic.BestEffort, Process: program(t, "wait")})
	ctl, err := elastic.New(h, elastic.Config{Policies: []elastic.Policy{&elastic.CPUConfine{All: true}}})
	require.NoError(t, err)
	require.NoError(t, ctl.Step(t.Context()))
	all, err := h.CPUs()
	if errors.Is(err, isolation.ErrNotSupported) || err == nil && all.Len() < 2 {
		time.Sleep(time.Millisecond) // a span to measure over
		require.NoError(t, ctl.Step(t.Context()))
		st, err := batch.Check(t.Context())
		require.NoError(t, err)
		assert.Empty(t, st.Claims, "there are no cpusets, or there is nothing to choose")
		return
	}
	require.NoError(t, err)
	var first cgroups.Set
	for cpu := range all.Each {
		first = cgroups.SetOf(cpu)
		break
	}
	started(t, h, isolation.Spec{
		ID: "web", Class: elastic.LatencyCritical, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: first}}, Process: program(t, "wait"),
	})
	require.NoError(t, ctl.Step(t.Context()))
	cpus, err := batch.Cgroup().EffectiveCPUs()
	require.NoError(t, err)
	assert.Equal(t, all.Len()-1, cpus.Len(), "%v of %v", cpus, all)
	for cpu := range first.Each {
		assert.False(t, cpus.Contains(cpu), "%v of %v", cpus, all)
	}
}

// TestControllerConfines has a controller find a best-effort sandbox that is in the
// kernel most of the time, and keep the last CPU free of it.
func TestControllerConfines(t *testing.T) {
	testutil.Require(t, testutil.Real)
	h := open(t)
	web := started(t, h, isolation.Spec{ID: "web", Class: elastic.LatencyCritical, Process: program(t, "wait")})
	batch := create(t, h, isolation.Spec{ID: "batch", Class: elastic.BestEffort, Process: program(t, "unmap")})
	require.NoError(t, batch.Start(deadline(t)))
	user := create(t, h, isolation.Spec{ID: "user", Class: elastic.BestEffort, Process: program(t, "spin")})
	require.NoError(t, user.Start(deadline(t)))
	var made []elastic.Decision
	ctl, err := elastic.New(h, elastic.Config{
		Policies:   []elastic.Policy{&elastic.CPUConfine{Calm: time.Millisecond, High: 0.5}},
		OnDecision: func(d elastic.Decision) { made = append(made, d) },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(time.Minute))
	defer cancel()
	require.NoError(t, ctl.Step(ctx))
	// The kernel tells its own time from the program's by the tick, so it takes some of
	// them, and on a busy machine best effort has few for long.
	for _, s := range []*isolation.Sandbox{batch, user} {
		for start := cpuTime(t, s); cpuTime(t, s)-start < 200*time.Millisecond; time.Sleep(10 * time.Millisecond) {
			require.NoError(t, ctx.Err())
		}
	}
	require.NoError(t, ctl.Step(ctx))
	all, err := h.CPUs()
	if errors.Is(err, isolation.ErrNotSupported) || err == nil && all.Len() < 2 {
		assert.Empty(t, made, "there are no cpusets, or there is nothing to choose")
		return
	}
	require.NoError(t, err)
	require.Len(t, made, 1)
	assert.Equal(t, elastic.Made, made[0].State, "%v: %s", made[0], made[0].Why)
	assert.Equal(t, "batch", made[0].Sandbox)
	cpus, err := batch.Cgroup().EffectiveCPUs()
	require.NoError(t, err)
	var last int
	for last = range all.Each {
	}
	assert.False(t, cpus.Contains(last), "%v of %v", cpus, all)
	assert.True(t, batch.Asked().CPUSet.CPUs.IsZero(), "what its owner asked for stays")

	// With nobody left to protect it is let go.
	require.NoError(t, web.Destroy(deadline(t)))
	for len(made) == 1 {
		require.NoError(t, ctl.Step(ctx))
		time.Sleep(10 * time.Millisecond) // a span to measure over
	}
	assert.Equal(t, elastic.Release, made[len(made)-1].Rung, "%v", made)
	cpus, err = batch.Cgroup().EffectiveCPUs()
	require.NoError(t, err)
	assert.Equal(t, all, cpus)
}

// cpuTime is how much the sandbox has used.
func cpuTime(t *testing.T, s *isolation.Sandbox) time.Duration {
	t.Helper()
	var st cgroups.Stats
	require.NoError(t, s.Stat(&st))
	used, _ := st.CPU.Usage.Value()
	return used
}

// TestControllerStopsHogs has best-effort hogs creep up on the memory that all
// sandboxes have together: each is frozen before the kernel kills anybody.
func TestControllerStopsHogs(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	h := open(t)
	const limit = 128 << 20
	_, err := h.Parent().Update(deadline(t), cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(limit)}})
	require.NoError(t, err)
	web := started(t, h, isolation.Spec{ID: "web", Class: elastic.LatencyCritical, Process: program(t, "wait")})
	most, used, ok, err := h.Memory()
	require.NoError(t, err)
	require.True(t, ok)
	assert.EqualValues(t, limit, most)
	assert.Less(t, used, most)

	for range 2 {
		ctl, err := elastic.New(h, elastic.Config{Policies: []elastic.Policy{&elastic.MemoryGuard{}}})
		require.NoError(t, err)
		creep := spec(t, "hog", "creep", "80")
		creep.Class = elastic.BestEffort
		hog := started(t, h, creep)
		st, err := hog.Check(deadline(t))
		require.NoError(t, err)
		adj, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", st.PID))
		require.NoError(t, err)
		assert.Equal(t, "1000\n", string(adj), "the kernel would take it first")
		for ctx, frozen := deadline(t), false; !frozen; {
			require.NoError(t, ctx.Err())
			require.NoError(t, ctl.Step(ctx))
			time.Sleep(100 * time.Millisecond) // a span to measure over
			frozen, err = hog.Frozen()
			require.NoError(t, err)
		}
		for _, sb := range []*isolation.Sandbox{web, hog} {
			var st cgroups.Stats
			require.NoError(t, sb.Stat(&st))
			killed, _ := st.Memory.Events.OOMKill.Value()
			assert.Zero(t, killed, sb.ID())
		}
		require.NoError(t, hog.Destroy(deadline(t)))
	}
	st, err := web.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
}
