// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openRoot(t testing.TB) *cgroups.Root {
	testutil.Require(t, testutil.Root)
	root, err := cgroups.Open("")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, root.Close()) })
	return root
}

// create makes a group under the controllers, which goes when the test ends.
func create(t testing.TB, root *cgroups.Root, want ...cgroups.Controller) *cgroups.Cgroup {
	for _, c := range want {
		if !root.Controllers().Has(c) {
			testutil.Skip(t, testutil.Requirement(c.String()), "the root has no such controller")
		}
	}
	cg, err := root.Create(testutil.CgroupName(t), cgroups.ControllersOf(want...))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(10*time.Second))
		defer cancel()
		assert.NoError(t, cg.Kill(ctx))
		assert.NoError(t, cg.Remove(ctx))
		assert.NoError(t, cg.Close())
	})
	return cg
}

func update(t testing.TB, cg *cgroups.Cgroup, r cgroups.Resources) {
	_, err := cg.Update(context.Background(), r)
	require.NoError(t, err)
}

// run starts a child in the group; it begins when it is in it.
func run(t testing.TB, cg *cgroups.Cgroup, name string, args ...string) *exec.Cmd {
	cmd := testutil.Child(t, name, args...)
	begin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, cg.Add(context.Background(), cmd.Process.Pid))
	_, err = begin.Write([]byte{1})
	require.NoError(t, err)
	return cmd
}

func watch(t testing.TB, e *Engine, cfg WatchConfig) *Watch {
	w, err := e.Watch(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.Close()) })
	return w
}

// until reads events up to the first of type T that is wanted.
func until[T Event](t testing.TB, w *Watch, wanted func(T) bool) T {
	t.Helper()
	for {
		if e, ok := next(t, w).(T); ok && wanted(e) {
			return e
		}
	}
}

func TestKernelCPUPressure(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.PSI)
	cg := create(t, openRoot(t), cgroups.ControllerCPU)
	update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.2)}})
	e := newEngine(t)
	th := Threshold{Resource: cgroups.PressureCPU, Stall: 100 * ms, Window: time.Second}
	want := Sampler
	if n, err := cg.OpenTrigger(th.Resource, th.trigger()); err == nil {
		require.NoError(t, n.Close())
		want = Trigger
	}
	w := watch(t, e, WatchConfig{Cgroup: cg, Pressure: []Threshold{th}})
	cmd := run(t, cg, "spin")

	ev := nextAs[Pressure](t, w)
	assert.True(t, ev.Rising)
	assert.Equal(t, want, ev.Source)
	latency := map[Source]time.Duration{Trigger: 100 * ms, Sampler: 100 * ms} // the kernel looks ten times a window
	assert.Equal(t, latency[want], ev.Latency)
	assert.GreaterOrEqual(t, ev.Stalled, th.Stall)
	throttled, ok := ev.Throttled.Value()
	assert.True(t, ok)
	t.Logf("%v of %v stalled, %v throttled by its own quota, by %v", ev.Stalled, ev.Span, throttled, ev.Source)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	ev = nextAs[Pressure](t, w)
	assert.False(t, ev.Rising)
	_, ok = ev.Throttled.Value()
	assert.True(t, ok)
	if want == Trigger { // quiet again, until the kernel calls
		idle(t, e)
	}
}

// The group's own quota shows in its pressure; it is said how much.
func TestKernelThrottled(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.PSI)
	cg := create(t, openRoot(t), cgroups.ControllerCPU)
	update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.1)}})
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, Pressure: []Threshold{
		{Resource: cgroups.PressureCPU, Stall: 1500 * ms, Window: 2 * time.Second},
	}})
	run(t, cg, "spin")
	ev := until(t, w, func(p Pressure) bool { return p.Rising })
	throttled, ok := ev.Throttled.Value()
	assert.True(t, ok)
	if !testutil.Emulated() {
		// An emulated CPU that its host holds up for a second has used the
		// quota of a hundred periods, and is throttled for as long at a stretch.
		assert.Positive(t, throttled)
	}
}

func TestKernelMachinePressure(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.PSI)
	root := openRoot(t)
	cg := create(t, root)
	w := watch(t, newEngine(t), WatchConfig{Root: root, Pressure: []Threshold{
		{Resource: cgroups.PressureCPU, Stall: ms, Window: 500 * ms},
		{Resource: cgroups.PressureMemory, Full: true, Stall: 400 * ms, Window: 500 * ms},
	}})
	for range runtime.NumCPU() {
		run(t, cg, "spin")
	}
	ev := nextAs[Pressure](t, w)
	assert.True(t, ev.Rising)
	assert.Equal(t, cgroups.PressureCPU, ev.Resource)
	assert.True(t, ev.Throttled.IsZero())
}

func TestKernelOOM(t *testing.T) {
	testutil.CheckLeaks(t)
	cg := create(t, openRoot(t), cgroups.ControllerMemory)
	limits := cgroups.Memory{Max: cgroups.Bytes(32 << 20), Swap: cgroups.Bytes(0)}
	_, err := cg.Update(context.Background(), cgroups.Resources{Memory: limits})
	if errors.Is(err, cgroups.ErrNotSupported) { // v1 without swap accounting
		limits.Swap = cgroups.Limit{}
		update(t, cg, cgroups.Resources{Memory: limits})
	} else {
		require.NoError(t, err)
	}
	e := newEngine(t)
	w := watch(t, e, WatchConfig{Cgroup: cg, Memory: true})
	pending := watch(t, e, WatchConfig{Cgroup: cg, Memory: true})
	cmd := run(t, cg, "eat", "256")
	oom := until(t, w, func(oom OOM) bool { return oom.Kills > 0 })
	assert.False(t, oom.When().IsZero())

	// Who reads after the end has it too, whatever the notifications did.
	_ = cmd.Wait()
	var kills uint64
	for ev := range pending.Pending() {
		if oom, ok := ev.(OOM); ok {
			kills += oom.Kills
		}
	}
	assert.Positive(t, kills)
}

func TestKernelLimits(t *testing.T) {
	testutil.CheckLeaks(t)
	cg := create(t, openRoot(t), cgroups.ControllerPIDs)
	update(t, cg, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(40)}})
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, PIDs: true})
	run(t, cg, "fork")
	hit := nextAs[LimitHit](t, w)
	assert.Equal(t, "pids.max", hit.Resource)
	assert.Positive(t, hit.Count)
}

func TestKernelState(t *testing.T) {
	testutil.CheckLeaks(t)
	root := openRoot(t)
	if _, ok := root.Unified(); !ok && !root.Detached() {
		testutil.Skip(t, testutil.UnifiedTree, "there is no unified tree")
	}
	cg := create(t, root)
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, Populated: true})
	cmd := run(t, cg, "eat", "1")
	assert.True(t, nextAs[Populated](t, w).Populated)
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(10*time.Second))
	defer cancel()
	require.NoError(t, cg.Freeze(ctx))
	assert.True(t, nextAs[Frozen](t, w).Frozen)
	require.NoError(t, cg.Thaw(ctx))
	assert.False(t, nextAs[Frozen](t, w).Frozen)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	assert.False(t, nextAs[Populated](t, w).Populated)
}

// A group that is removed underneath ends its watch, whatever is watched of it,
// and nothing spins (fault 37).
func TestKernelGone(t *testing.T) {
	testutil.CheckLeaks(t)
	root := openRoot(t)
	e := newEngine(t)
	pressure := []Threshold{{Resource: cgroups.PressureIO, Stall: 400 * ms, Window: 500 * ms}}
	for name, cfg := range map[string]WatchConfig{
		"nothing":  {},
		"pids":     {PIDs: true},
		"memory":   {Memory: true},
		"state":    {Populated: true},
		"pressure": {Pressure: pressure},
		"all":      {PIDs: true, Memory: true, Populated: true, Pressure: pressure},
	} {
		t.Run(name, func(t *testing.T) {
			if cfg.Pressure != nil {
				testutil.Require(t, testutil.PSI)
			}
			cfg.Cgroup = create(t, root, cgroups.ControllerMemory, cgroups.ControllerPIDs)
			w := watch(t, e, cfg)
			require.NoError(t, cfg.Cgroup.Remove(context.Background()))
			assert.IsType(t, Gone{}, next(t, w))
			_, err := w.Next(context.Background())
			require.Equal(t, io.EOF, err)

			_, err = e.Watch(cfg)
			require.ErrorIs(t, err, cgroups.ErrGone)

			// A new group of the same name is nobody's business.
			again, err := root.Create(cfg.Cgroup.Path(), 0)
			require.NoError(t, err)
			require.NoError(t, again.Remove(context.Background()))
			require.NoError(t, again.Close())
			_, err = w.Next(context.Background())
			require.Equal(t, io.EOF, err)
		})
	}
	idle(t, e)
	// A loop would spin for ever; emulated clocks are odd only for moments.
	require.Eventually(t, func() bool {
		before := cpuTime(t)
		time.Sleep(300 * ms)
		return cpuTime(t)-before < 150*ms
	}, testutil.Patience(10*time.Second), ms, "an idle engine spins")
}

func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	assert.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A group whose pressure is switched off is not gone (fault 47).
func TestKernelPressureOff(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.PSI)
	cg := create(t, openRoot(t))
	file := fmt.Sprintf("/proc/self/fd/%d/cgroup.pressure", cg.FD())
	if _, err := os.Stat(file); err != nil {
		testutil.Skip(t, "cgroup.pressure", "%v", err)
	}
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, Populated: true, Pressure: []Threshold{memory(400*ms, 500*ms, 0)}})
	require.NoError(t, os.WriteFile(file, []byte("0"), 0))
	ev := nextAs[Failed](t, w)
	assert.Equal(t, "memory pressure", ev.What)
	require.ErrorIs(t, ev.Err, cgroups.ErrNotSupported)
	run(t, cg, "eat", "1")
	assert.True(t, nextAs[Populated](t, w).Populated, "the rest goes on")
}

func TestExits(t *testing.T) {
	testutil.CheckLeaks(t)
	e := newEngine(t)
	n := 200
	if testutil.Emulated() {
		n = 60
	}
	counts := make([]atomic.Int32, n)
	var all sync.WaitGroup
	all.Add(n - n/10)
	for i := range n {
		pidfd := -1
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
		require.NoError(t, cmd.Start())
		require.GreaterOrEqual(t, pidfd, 0, "the kernel has pidfds")
		if i%3 == 0 {
			require.NoError(t, cmd.Wait(), "ended before anybody asks")
		}
		done := make(chan struct{})
		cancel, err := e.OnExit(pidfd, func() {
			counts[i].Add(1)
			if i%10 != 9 {
				all.Done()
			}
			close(done)
		})
		require.NoError(t, err)
		if i%10 == 9 {
			cancel() // before or after, it is called once at most
			cancel()
			if i%3 != 0 {
				_ = cmd.Wait()
			}
			require.NoError(t, syscall.Close(pidfd))
			continue
		}
		defer syscall.Close(pidfd)
		if i%3 == 1 {
			go func() { <-done; _ = cmd.Wait() }()
		} else {
			defer func() { _ = cmd.Wait() }()
		}
	}
	all.Wait()
	for i := range counts {
		if got := counts[i].Load(); i%10 == 9 {
			assert.LessOrEqual(t, got, int32(1))
		} else {
			assert.EqualValues(t, 1, got)
		}
	}
}

// BenchmarkTick is one sample of 100 idle groups, three pressure files each, as
// the engine takes it, and as bare reads of the same files.
func BenchmarkTick(b *testing.B) {
	testutil.Require(b, testutil.PSI)
	root := openRoot(b)
	parent := create(b, root)
	e := newEngine(b)
	var fds []int
	for i := range 100 {
		cg, err := root.Create(fmt.Sprintf("%s/%d", parent.Path(), i), 0)
		require.NoError(b, err)
		defer cg.Close()
		w := watch(b, e, WatchConfig{Cgroup: cg, Pressure: []Threshold{
			{Resource: cgroups.PressureCPU, Stall: 100 * ms, Window: time.Second},
			{Resource: cgroups.PressureMemory, Stall: 100 * ms, Window: time.Second},
			{Resource: cgroups.PressureIO, Stall: 100 * ms, Window: time.Second},
		}})
		defer w.Close()
		for _, name := range []string{"cpu", "memory", "io"} {
			fd, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d/%s.pressure", cg.FD(), name), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
			require.NoError(b, err)
			defer syscall.Close(fd)
			fds = append(fds, fd)
		}
	}
	b.Run("engine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for w := range e.watches {
				for _, g := range w.gauges {
					g.tick()
				}
			}
		}
	})
	b.Run("preads", func(b *testing.B) {
		buf := make([]byte, 512)
		for b.Loop() {
			for _, fd := range fds {
				_, _ = syscall.Pread(fd, buf, 0)
			}
		}
	})
}

func BenchmarkOnExit(b *testing.B) {
	e := newEngine(b)
	pidfd := -1
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	require.NoError(b, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = syscall.Close(pidfd) }()
	b.ReportAllocs()
	for b.Loop() {
		cancel, err := e.OnExit(pidfd, func() {})
		require.NoError(b, err)
		cancel()
	}
}
