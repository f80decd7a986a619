// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// removeBehind removes the group through another value, as somebody else would.
func removeBehind(tb testing.TB, c *Cgroup) {
	tb.Helper()
	other, err := c.root.Open(c.Path())
	require.NoError(tb, err)
	other.Own()
	require.NoError(tb, other.Remove(tb.Context()))
	require.NoError(tb, other.Close())
}

// has skips the test if no group can be under ctl here.
func has(tb testing.TB, r *Root, ctl Controller) Controllers {
	tb.Helper()
	if !r.Controllers().Has(ctl) {
		class := testutil.Cgroup2(ctl.String())
		if r.Mode() != Unified {
			class = testutil.Cgroup1(ctl.String())
		}
		testutil.Skip(tb, class, "the root has %s", r.Controllers())
	}
	return ControllersOf(ctl)
}

// limit writes a knob under its v2 or its v1 name.
func limit(tb testing.TB, c *Cgroup, ctl Controller, v2, data2, v1, data1 string) {
	tb.Helper()
	n := c.node(ctl)
	require.NotNil(tb, n)
	if n.in.v2 {
		require.NoError(tb, n.dir.WriteFile(v2, data2))
	} else {
		require.NoError(tb, n.dir.WriteFile(v1, data1))
	}
}

func value[T uint64 | time.Duration | bool](tb testing.TB, r Reading[T]) T {
	tb.Helper()
	v, ok := r.Value()
	require.True(tb, ok, "absent")
	return v
}

func TestStat(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	w := newWorker(t, c)
	w.do(t, "spin 50ms")
	w.do(t, "eat %d", 8<<20)

	var s Stats
	require.NoError(t, c.Stat(&s))
	assert.Equal(t, c.Controllers()&measured, s.Has)
	if c.unified() != nil || s.Has.Has(ControllerCPUAcct) {
		usage := value(t, s.CPU.Usage)
		assert.GreaterOrEqual(t, usage, 50*time.Millisecond)
		sum := value(t, s.CPU.User) + value(t, s.CPU.System)
		if !s.Has.Has(ControllerCPUAcct) { // which samples them on older kernels
			assert.InDelta(t, usage.Seconds(), sum.Seconds(), 0.05)
		}
	}
	if s.Has.Has(ControllerCPU) {
		assert.Zero(t, value(t, s.CPU.Throttled))
		assert.Zero(t, value(t, s.CPU.ThrottledTime))
	}
	if s.Has.Has(ControllerMemory) {
		assert.GreaterOrEqual(t, value(t, s.Memory.Current), uint64(8<<20))
		assert.GreaterOrEqual(t, value(t, s.Memory.Anon), uint64(8<<20))
		assert.NotZero(t, value(t, s.Memory.Faults))
		assert.True(t, s.Memory.Max.IsMax())
		assert.Zero(t, value(t, s.Memory.Events.OOMKill))
	}
	if s.Has.Has(ControllerPIDs) {
		assert.NotZero(t, value(t, s.PIDs.Current))
		assert.True(t, s.PIDs.Max.IsMax())
		assert.Zero(t, value(t, s.PIDs.Events.Max))
	}
	if s.Has.Has(ControllerIO) {
		assert.False(t, s.IO.Total.WriteBytes.IsZero())
	}

	// Only what is asked for, and only those files.
	fresh, err := r.Open(c.Path())
	require.NoError(t, err)
	defer fresh.Close()
	require.NoError(t, fresh.StatOf(&s, ControllersOf(ControllerCPU, ControllerFreezer)))
	assert.Zero(t, s.Has&^ControllersOf(ControllerCPU, ControllerCPUAcct))
	assert.Zero(t, s.Memory)
	assert.True(t, s.CPUPressure.IsZero())
	for f, file := range fresh.stats.files {
		assert.True(t, file == nil || statFiles[f].part == ControllerCPU, fileName(statFile(f)))
	}
	require.NoError(t, fresh.StatOf(&s, 0))
	assert.Zero(t, s.Has)
	w.end(t)
}

// IO is counted. Not so on v1, where the writeback of a disk's own cache is the
// root's.
func TestStatIO(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("io"))
	disk := testutil.Scratch(t)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, has(t, r, ControllerIO))
	w := newWorker(t, c)
	w.do(t, "write %s %d", disk, 1<<20)
	var s Stats
	require.NoError(t, c.StatOf(&s, ControllersOf(ControllerIO)))
	assert.GreaterOrEqual(t, value(t, s.IO.Total.WriteBytes), uint64(1<<20))
	assert.NotZero(t, value(t, s.IO.Total.WriteOps))
	require.NotEmpty(t, s.IO.Devices)
	w.end(t)
}

func TestStatThrottled(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, has(t, r, ControllerCPU))
	limit(t, c, ControllerCPU, "cpu.max", "10000 100000", "cpu.cfs_quota_us", "10000")
	w := newWorker(t, c)
	w.do(t, "spin 60ms")
	var s Stats
	require.NoError(t, c.Stat(&s))
	assert.NotZero(t, value(t, s.CPU.Periods))
	assert.NotZero(t, value(t, s.CPU.Throttled))
	assert.GreaterOrEqual(t, value(t, s.CPU.ThrottledTime), 50*time.Millisecond)

	// The unified tree shows it as pressure, whoever's the quota is.
	testutil.Require(t, testutil.PSI)
	if c.unified() == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	assert.True(t, s.CPUPressure.Some.Present)
	assert.GreaterOrEqual(t, s.CPUPressure.Some.Total, 50*time.Millisecond)
	var p Pressure
	require.NoError(t, c.Pressure(PressureCPU, &p))
	assert.GreaterOrEqual(t, p.Some.Total, s.CPUPressure.Some.Total)
	require.NoError(t, r.Pressure(PressureCPU, &p))
	assert.NotZero(t, p.Some.Total)
	w.end(t)
}

func TestStatNoAllocations(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	var s Stats
	var e Events
	var p Pressure
	noAllocations := func(what string, call func() error) {
		require.NoError(t, call())
		// A garbage collection may take the scratch buffer: less than one a
		// call rounds to none.
		assert.Zero(t, testing.AllocsPerRun(50, func() { _ = call() }), what)
	}
	noAllocations("Stat", func() error { return c.Stat(&s) })
	noAllocations("StatOf", func() error { return c.StatOf(&s, ControllersOf(ControllerCPU)) })
	noAllocations("Events", func() error { return c.Events(&e) })
	if c.Pressure(PressureIO, &p) == nil {
		noAllocations("Pressure", func() error { return c.Pressure(PressureIO, &p) })
		noAllocations("Root.Pressure", func() error { return r.Pressure(PressureIO, &p) })
	}
}

func TestStatGone(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	fresh, err := r.Open(c.Path()) // has not opened any file yet
	require.NoError(t, err)
	defer fresh.Close()
	var s Stats
	var e Events
	var p Pressure
	require.NoError(t, c.Stat(&s))
	require.NoError(t, c.Events(&e))
	removeBehind(t, c)
	for range 2 {
		for _, c := range []*Cgroup{c, fresh} {
			s.Memory.Current, e.Populated, p.Some.Present = ReadingOf[uint64](1), ReadingOf(true), true
			require.ErrorIs(t, c.Stat(&s), ErrGone)
			assert.Zero(t, s.Memory)
			require.ErrorIs(t, c.Events(&e), ErrGone)
			assert.Zero(t, e)
			if c.unified() != nil {
				require.ErrorIs(t, c.Pressure(PressureMemory, &p), ErrGone)
				assert.Zero(t, p)
				_, err = c.OpenTrigger(PressureMemory, Trigger{Stall: time.Second, Window: 2 * time.Second})
				require.ErrorIs(t, err, ErrGone)
				_, err = c.OpenEvents(EventState)
				require.ErrorIs(t, err, ErrGone)
			}
		}
	}
}

func TestStatClosed(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	group := newGroup(t, r, 0)
	for _, before := range []bool{false, true} {
		c, err := r.Open(group.Path())
		require.NoError(t, err)
		var s Stats
		var p Pressure
		if before {
			require.NoError(t, c.Stat(&s))
		}
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.Stat(&s), os.ErrClosed)
		assert.Zero(t, s.Has)
		if c.unified() != nil {
			require.ErrorIs(t, c.Pressure(PressureCPU, &p), os.ErrClosed)
		}
	}
}

// A controller that is enabled later is measured from then on.
func TestStatLater(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	// Inside a group of its own, so that nobody else enables controllers.
	outer := newGroup(t, r, has(t, r, ControllerPIDs)|has(t, r, ControllerMemory))
	c := newGroupAt(t, r, outer.Path()+"/inner", ControllersOf(ControllerPIDs))
	var s Stats
	require.NoError(t, c.Stat(&s))
	assert.False(t, s.Has.Has(ControllerMemory))
	assert.Zero(t, s.Memory)
	_, err := c.ensure(t.Context(), ControllerMemory)
	require.NoError(t, err)
	require.NoError(t, c.Stat(&s))
	assert.True(t, s.Has.Has(ControllerMemory))
	assert.False(t, s.Memory.Current.IsZero())
}

// Close may come at any time, also while others measure.
func TestStatConcurrent(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	group := newGroup(t, r, 0)
	for range 20 {
		c, err := r.Open(group.Path())
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var s Stats
				for {
					if err := c.Stat(&s); err != nil {
						assert.ErrorIs(t, err, os.ErrClosed)
						return
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		assert.NoError(t, c.Close())
		wg.Wait()
	}
}

// cgroup.pressure hides the files of a group that goes on living (fault 47).
func TestPressureOff(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.PSI)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	n := c.unified()
	if n == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	if there, err := n.dir.Has("cgroup.pressure"); err != nil || !there {
		testutil.Skip(t, "cgroup.pressure", "no such file: %v", err)
	}
	var s Stats
	var p Pressure
	require.NoError(t, c.Stat(&s))
	assert.True(t, s.CPUPressure.Some.Present)
	trigger, err := c.OpenTrigger(PressureCPU, Trigger{Stall: time.Second, Window: 2 * time.Second})
	require.NoError(t, err)
	defer trigger.Close()

	require.NoError(t, n.dir.WriteFile("cgroup.pressure", "0"))
	for range 2 {
		require.NoError(t, c.Stat(&s))
		assert.True(t, s.CPUPressure.IsZero())
		err := c.Pressure(PressureCPU, &p)
		require.ErrorIs(t, err, ErrNotSupported)
		require.ErrorContains(t, err, "cgroup.pressure is 0")
		require.ErrorIs(t, trigger.Ack(), ErrNotSupported)
		_, err = c.OpenTrigger(PressureCPU, Trigger{Stall: time.Second, Window: 2 * time.Second})
		require.ErrorIs(t, err, ErrNotSupported)
	}
	require.NoError(t, n.dir.WriteFile("cgroup.pressure", "1"))
	require.NoError(t, c.Pressure(PressureCPU, &p))
	require.NoError(t, c.Stat(&s))
	assert.True(t, s.CPUPressure.Some.Present)
}

// An ordinary user measures groups in what was delegated to him.
func TestStatDelegated(t *testing.T) {
	r, err := Open(testutil.Delegated(t))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	c := newGroup(t, r, 0)
	var s Stats
	require.NoError(t, c.Stat(&s))
	assert.Equal(t, c.Controllers()&measured, s.Has)
	assert.False(t, s.Memory.Current.IsZero())
	assert.True(t, s.CPUPressure.Some.Present)
	n, err := c.OpenEvents(EventMemory)
	require.NoError(t, err)
	require.NoError(t, n.Close())
	n, err = c.OpenTrigger(PressureCPU, Trigger{Stall: time.Second, Window: 2 * time.Second})
	if !errors.Is(err, os.ErrPermission) {
		require.NoError(t, err)
		require.NoError(t, n.Close())
	}
}

func TestPressureRefused(t *testing.T) {
	var r Root
	var c Cgroup
	c.root = &r
	var p Pressure
	require.ErrorIs(t, c.Pressure(0, &p), ErrInvalid)
	require.ErrorIs(t, r.Pressure(9, &p), ErrInvalid)
	require.ErrorIs(t, c.Pressure(PressureCPU, &p), ErrNotSupported)
	_, err := c.OpenTrigger(PressureCPU, Trigger{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = r.OpenTrigger(PressureCPU, Trigger{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = c.OpenEvents(0)
	require.ErrorIs(t, err, ErrInvalid)
	for _, k := range []EventKind{EventMemory, EventSwap, EventPIDs, EventState} {
		_, err = c.OpenEvents(k)
		require.ErrorIs(t, err, ErrNotSupported, k)
	}
}

func BenchmarkStat(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	c := newGroup(b, r, r.Controllers()&^ControllersOf(ControllerHugeTLB))
	var s Stats
	require.NoError(b, c.Stat(&s))
	b.Run("Stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Stat(&s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("preads", func(b *testing.B) { // of the same files
		buf := make([]byte, 4096)
		for b.Loop() {
			for _, f := range c.stats.files {
				if f != nil {
					if _, err := f.ReadAt(buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}
