// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fleet is targets without a kernel.
type fleet struct{ targets []Target }

func (f *fleet) Targets() iter.Seq[Target] {
	return func(yield func(Target) bool) {
		for _, t := range f.targets {
			if !yield(t) {
				return
			}
		}
	}
}

func (f *fleet) Pressure(cgroups.PressureResource, *cgroups.Pressure) error {
	return &cgroups.UnsupportedError{Feature: "pressure", Reason: "a fake"}
}

// dummy notes what is done to it.
type dummy struct {
	id    string
	class Class

	usage  time.Duration
	limits cgroups.Resources
	frozen bool
	killed bool
	took   uint64
	fail   error
	gone   bool
	told   []string
}

func (d *dummy) Corrected(c Correction) { d.told = append(d.told, c.String()) }

func (d *dummy) ID() string                                              { return d.id }
func (d *dummy) Class() Class                                            { return d.class }
func (d *dummy) Asked() cgroups.Resources                                { return cgroups.Resources{} }
func (d *dummy) Service() *Service                                       { return nil }
func (d *dummy) Frozen() (bool, error)                                   { return d.frozen, nil }
func (d *dummy) Limits(...cgroups.Controller) (cgroups.Resources, error) { return d.limits, nil }

func (d *dummy) Stat(s *cgroups.Stats) error {
	if d.gone {
		return cgroups.ErrGone
	}
	if d.fail != nil {
		return d.fail
	}
	d.usage += 30 * time.Millisecond
	s.CPU.Usage = cgroups.ReadingOf(d.usage)
	s.Memory.Current = cgroups.ReadingOf[uint64](1 << 30)
	return nil
}

func (d *dummy) Squeeze(_ context.Context, r cgroups.Resources) error {
	if d.fail != nil {
		return d.fail
	}
	d.limits = d.limits.Merge(r)
	return nil
}

func (d *dummy) Reclaim(_ context.Context, n uint64) error { d.took += n; return nil }
func (d *dummy) Freeze(context.Context) error              { d.frozen = true; return nil }
func (d *dummy) Thaw(context.Context) error                { d.frozen = false; return nil }
func (d *dummy) Kill(context.Context) error                { d.killed = true; return nil }

// placedFleet is a fleet with cpusets that counts how often it is asked for them.
type placedFleet struct {
	fleet
	asked int
}

func (f *placedFleet) CPUs() (cgroups.Set, error) {
	f.asked++
	return cgroups.SetOf(0, 1), nil
}

// What no policy decides by is not read.
func TestMeterReadsWhatPoliciesWant(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	for asks, policies := range map[int][]Policy{0: {&CPUSuppress{}}, 1: {&CPUSuppress{}, &CPUConfine{}}} {
		batch := &dummy{id: "batch", class: BestEffort}
		batch.limits.CPUSet.CPUs = cgroups.SetOf(1)
		f := &placedFleet{fleet: fleet{targets: []Target{batch}}}
		s, err := NewMeter(f, policies...).Read()
		require.NoError(t, err)
		assert.Equal(t, asks, f.asked)
		assert.Equal(t, asks == 0, s.Machine.CPUSet.IsZero())
		assert.Equal(t, asks == 0, s.Sandboxes[0].CPUSet.IsZero())
	}
}

// announcer is a fleet that tells when it has grown.
type announcer struct {
	placedFleet
	mu      sync.Mutex
	f       func()
	stopped bool
}

func (a *announcer) Announce(f func()) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.f = f
	return func() { a.mu.Lock(); defer a.mu.Unlock(); a.stopped = true }
}

func (a *announcer) Targets() iter.Seq[Target] {
	a.mu.Lock()
	defer a.mu.Unlock()
	return (&fleet{targets: slices.Clone(a.targets)}).Targets()
}

// grow adds a target, and tells.
func (a *announcer) grow(t Target) {
	a.mu.Lock()
	a.targets = append(a.targets, t)
	f := a.f
	a.mu.Unlock()
	f()
}

// batchJob is best effort that may run anywhere.
func batchJob(id string) *dummy {
	d := &dummy{id: id, class: BestEffort}
	d.limits.CPUSet.CPUs = cgroups.DefaultSet()
	return d
}

// TestControllerGreets has sandboxes arrive between two looks that never come.
func TestControllerGreets(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	var trace bytes.Buffer
	made := make(chan Decision, 8)
	f := &announcer{placedFleet: placedFleet{fleet: fleet{targets: []Target{&dummy{id: "web", class: LatencyCritical}, batchJob("a")}}}}
	policies := func() []Policy { return []Policy{&CPUConfine{All: true}, want(Correction{Sandbox: "a", Rung: Freeze})} }
	c, err := Start(t.Context(), f, Config{
		Policies: policies(), Period: time.Hour, Trace: &trace,
		OnDecision: func(d Decision) { made <- d },
	})
	require.NoError(t, err)
	next := func() Decision {
		select {
		case d := <-made:
			return d
		case <-time.After(testutil.Patience(10 * time.Second)):
			require.Fail(t, "nobody was greeted")
			return Decision{}
		}
	}
	for _, d := range []Decision{next(), next()} { // of the first look, from both
		assert.Equal(t, "a", d.Sandbox)
	}
	late := batchJob("b")
	f.grow(late)
	d := next()
	assert.Equal(t, Made, d.State, "%v", d)
	assert.Equal(t, "b", d.Sandbox)
	assert.Equal(t, "0", late.limits.CPUSet.CPUs.String())
	f.grow(&dummy{id: "web-2", class: LatencyCritical})
	f.grow(batchJob("c"))
	assert.Equal(t, "c", next().Sandbox)
	require.NoError(t, c.Close())
	assert.True(t, f.stopped)
	assert.Empty(t, made, "the other policy is asked at looks only")

	planner, err := NewPlanner(policies(), 0)
	require.NoError(t, err)
	var news [][]string
	for r, err := range Replay(ReadTrace(&trace), planner) {
		require.NoError(t, err)
		news = append(news, r.Snapshot.New)
		require.Len(t, r.Planned, len(r.Decisions))
		for i, d := range r.Decisions {
			assert.Equal(t, d.Correction, r.Planned[i].Correction)
		}
	}
	assert.Nil(t, news[0], "the first look")
	assert.Equal(t, []string{"b"}, news[1])
	assert.Contains(t, news[len(news)-1], "c")
}

// A controller nobody of which wants to know hears of nobody.
func TestControllerDoesNotListen(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	f := &announcer{}
	c, err := Start(t.Context(), f, Config{Policies: []Policy{&CPUSuppress{}}})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.Nil(t, f.f)
}

// TestMeterReadsNew follows a sandbox from its arrival to its first rates.
func TestMeterReadsNew(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	f := &placedFleet{fleet: fleet{targets: []Target{&dummy{id: "m", class: BestEffort}}}}
	m := NewMeter(f)
	assert.Nil(t, m.ReadNew(), "to the first look all are new")
	_, err := m.Read()
	require.NoError(t, err)
	assert.Nil(t, m.ReadNew())
	f.targets = append(f.targets, &dummy{id: "z"}, &dummy{id: "b"}, &dummy{id: "gone", gone: true})
	s := m.ReadNew()
	require.NotNil(t, s)
	assert.Equal(t, []string{"b", "z"}, s.New)
	assert.Zero(t, s.Elapsed)
	for _, id := range []string{"b", "m", "z"} {
		require.NotNil(t, s.Find(id), id)
		assert.Zero(t, s.Find(id).CPU)
	}
	assert.Nil(t, m.ReadNew(), "they are known")
	// One more of the same name is somebody else.
	f.targets[1] = &dummy{id: "z", class: BestEffort}
	s = m.ReadNew()
	require.NotNil(t, s)
	assert.Equal(t, []string{"z"}, s.New)
	assert.Equal(t, BestEffort, s.Find("z").Class)
	assert.Len(t, s.Sandboxes, 3)
	s, err = m.Read()
	require.NoError(t, err)
	assert.Nil(t, s.New)
	assert.Positive(t, s.Elapsed)
	assert.Positive(t, s.Find("b").CPU, "since it is there")
}

// want makes a policy that wants the same each time.
func want(cs ...Correction) *scripted {
	for i := range cs {
		cs[i].Policy, cs[i].Reason = "p", "because"
	}
	return &scripted{
		name: "p", levers: []Lever{{BestEffort, KnobFreeze}, {BestEffort, KnobKill}, {BestEffort, KnobCPUMax}},
		wants: func(*Snapshot) []Correction { return cs },
	}
}

func TestControllerCarriesOut(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	ctx := context.Background()
	a, web := &dummy{id: "a", class: BestEffort}, &dummy{id: "web", class: LatencyCritical}
	var decisions []Decision
	var trace bytes.Buffer
	var verdict Verdict
	expect := Expectation{Figure: FigureFrozen, Of: "a", Least: 1, Within: time.Minute}
	c, err := New(&fleet{[]Target{web, a}}, Config{
		Policies: []Policy{want(
			Correction{Sandbox: "a", Rung: Throttle, Resources: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}}},
			Correction{Sandbox: "a", Rung: Freeze, Expect: expect},
			Correction{Sandbox: "web", Rung: Freeze},
		)},
		Ask:        func(Correction) Verdict { return verdict },
		OnDecision: func(d Decision) { decisions = append(decisions, d) },
		Trace:      &trace,
	})
	require.NoError(t, err)
	require.NoError(t, c.Step(ctx))
	require.Len(t, decisions, 3)
	assert.Equal(t, Made, decisions[0].State)
	cpus, _ := a.limits.CPU.Max.CPUs()
	assert.InDelta(t, 0.5, cpus, 1e-9)
	assert.Equal(t, Made, decisions[1].State)
	assert.True(t, a.frozen)
	assert.Equal(t, Refused, decisions[2].State)
	assert.False(t, web.frozen)

	decisions = nil
	verdict = Veto("not now")
	require.NoError(t, c.Step(ctx))
	assert.Equal(t, CameTrue, decisions[0].State, "the expectation of before")
	assert.InDelta(t, 1, decisions[0].Got, 0)
	assert.Equal(t, Vetoed, decisions[1].State)
	assert.Equal(t, "not now", decisions[1].Why)

	decisions = nil
	verdict = Replace(Correction{Policy: "me", Sandbox: "a", Rung: Kill, Reason: "I know better"})
	require.NoError(t, c.Step(ctx))
	assert.Equal(t, Made, decisions[0].State)
	assert.Equal(t, Kill, decisions[0].Rung)
	assert.True(t, a.killed)
	require.NotEmpty(t, a.told)
	assert.Equal(t, "p: freeze a: because", a.told[0])
	assert.Contains(t, a.told, "me: kill a: I know better")
	assert.Empty(t, web.told, "what was refused was not made")

	decisions = nil
	verdict = Replace(Correction{})
	require.NoError(t, c.Step(ctx))
	assert.Equal(t, Refused, decisions[0].State)

	decisions = nil
	verdict = Accept()
	a.fail = errors.New("no")
	require.NoError(t, c.Step(ctx))
	assert.Equal(t, Refused, decisions[0].State, "who cannot be measured is not corrected")
	require.Error(t, c.meter.Missing()["a"])
	a.fail, a.gone = nil, true
	require.NoError(t, c.Step(ctx))
	assert.NotContains(t, c.meter.Missing(), "a", "who is gone is not missed")

	// The recording, replayed, wants the same.
	planner, err := NewPlanner(c.cfg.Policies, 0)
	require.NoError(t, err)
	n := 0
	for r, err := range Replay(ReadTrace(&trace), planner) {
		require.NoError(t, err)
		require.Len(t, r.Planned, 3)
		if n++; n == 1 {
			assert.Empty(t, r.Planned[0].Refused)
			assert.Equal(t, r.Decisions[1].Correction, r.Planned[1].Correction)
			assert.Equal(t, r.Decisions[2].Why, r.Planned[2].Refused)
		}
	}
	assert.Equal(t, 6, n)
}

func TestControllerDryRun(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	a := &dummy{id: "a", class: BestEffort}
	c, err := New(&fleet{[]Target{a}}, Config{
		DryRun: true, Policies: []Policy{want(Correction{Sandbox: "a", Rung: Freeze})},
		OnDecision: func(d Decision) { assert.Equal(t, Dry, d.State) },
	})
	require.NoError(t, err)
	require.NoError(t, c.Step(context.Background()))
	assert.False(t, a.frozen)
}

func TestControllerMissesExpectation(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	a := &dummy{id: "a", class: BestEffort}
	var states []State
	wanted := Correction{Sandbox: "a", Rung: Reclaim, Bytes: 4096, Expect: Expectation{Figure: FigureMemory, Of: "a", Most: 5, Within: 1}}
	c, err := New(&fleet{[]Target{a}}, Config{
		Policies: []Policy{want(wanted)}, OnDecision: func(d Decision) { states = append(states, d.State) },
	})
	require.NoError(t, err)
	require.NoError(t, c.Step(context.Background()))
	require.NoError(t, c.Step(context.Background()))
	assert.Equal(t, []State{Made, Missed, Made}, states)
	assert.EqualValues(t, 8192, a.took)
}

func TestControllerRuns(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	testutil.CheckLeaks(t)
	a := &dummy{id: "a", class: BestEffort}
	third := make(chan struct{})
	n := 0
	c, err := Start(context.Background(), &fleet{[]Target{a}}, Config{
		Period: time.Millisecond, Policies: []Policy{want(Correction{Sandbox: "a", Rung: Freeze})},
		OnDecision: func(Decision) {
			if n++; n == 3 {
				close(third)
			}
		},
	})
	require.NoError(t, err)
	select {
	case <-third:
	case <-time.After(testutil.Patience(10 * time.Second)):
		t.Fatal("nothing decided")
	}
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	assert.Positive(t, c.Revocable().Memory)
	b, err := c.SaveEstimator()
	require.NoError(t, err)
	require.NoError(t, c.LoadEstimator(b))

	_, err = Start(context.Background(), &fleet{}, Config{Period: -1})
	require.ErrorIs(t, err, cgroups.ErrInvalid)
	_, err = Start(context.Background(), &fleet{}, Config{Policies: []Policy{nil}})
	require.ErrorIs(t, err, cgroups.ErrInvalid)
}

// brokenWriter takes one write.
type brokenWriter struct{ n int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.n++; w.n > 1 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestTraceFails(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	w := &brokenWriter{}
	c, err := New(&fleet{}, Config{Trace: w})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, c.Step(context.Background()))
	}
	assert.ErrorContains(t, c.Err(), "disk full")
	assert.Equal(t, 2, w.n, "no write after the first that failed")
}

func TestReadTrace(t *testing.T) {
	var b bytes.Buffer
	for n := range 3 {
		require.NoError(t, WriteRecord(&b, Record{Snapshot: shot(n, service(1))}))
	}
	read := func(text string) (n int, err error) {
		for _, e := range ReadTrace(strings.NewReader(text)) {
			if e != nil {
				err = e
				break
			}
			n++
		}
		return n, err
	}
	n, err := read(b.String())
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = read(b.String()[:b.Len()-5])
	require.NoError(t, err, "cut off by a crash")
	assert.Equal(t, 2, n)
	n, err = read(b.String() + "{}\n")
	assert.ErrorContains(t, err, "trace line 4")
	assert.Equal(t, 3, n)
	_, err = read("\x00\x01 nonsense\n")
	assert.ErrorContains(t, err, "trace line 1")
}

func FuzzReadTrace(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, WriteRecord(&b, Record{Snapshot: shot(1, service(1), batch("a", 1, 2))}))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whatever a trace says, policies stand it, and want what is valid.
		p, err := NewPlanner(append(Defaults(), &Offload{}), 0)
		require.NoError(t, err)
		for r, err := range Replay(ReadTrace(bytes.NewReader(b)), p) {
			if err != nil {
				return
			}
			for _, c := range r.Planned {
				if c.Refused == "" {
					require.NoError(t, c.Validate())
				}
			}
		}
	})
}
