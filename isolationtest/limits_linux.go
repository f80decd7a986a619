// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// freeze: once it returns no process runs, and each goes on when it is thawed.
func freeze(s *stand) {
	box := s.running(1, s.spec("a", "spin"))
	pid := s.processes()[0]
	grows := func() {
		before := s.cpuTime(pid)
		s.eventually(func() bool { return s.cpuTime(pid) > before }, "CPU time of a process that runs")
	}
	grows()
	for range 2 {
		require.NoError(s, box.Freeze(s.ctx()))
		assert.True(s, s.check(box).Frozen)
		// The kernel says that it is frozen just before it leaves its CPU, and an emulated
		// CPU can be held up there. Afterwards it uses nothing of what it would, if it ran.
		s.eventually(func() bool {
			before := s.cpuTime(pid)
			<-time.After(50 * time.Millisecond)
			return s.cpuTime(pid) == before
		}, "a frozen process to use no CPU")
		require.NoError(s, box.Freeze(s.ctx()), "freeze once more")

		require.NoError(s, box.Thaw(s.ctx()))
		assert.False(s, s.check(box).Frozen)
		grows()
		require.NoError(s, box.Thaw(s.ctx()), "thaw once more")
	}
}

const mib = 1 << 20

// limited is a spec with two limits that every machine has.
func (s *stand) limited(does string) isolation.Spec {
	spec := s.spec("a", does)
	spec.Resources.PIDs.Max = cgroups.Count(100)
	spec.Resources.Memory.Max = cgroups.Bytes(256 * mib)
	return spec
}

func (s *stand) pidsMax(pid int) string { return s.knob(pid, "pids", "pids.max", "pids.max") }
func (s *stand) memoryMax(pid int) string {
	return s.knob(pid, "memory", "memory.max", "memory.limit_in_bytes")
}

// update: a plan writes nothing, an update what it says and no more, and both are
// seen in the kernel's files.
func update(s *stand) {
	box := s.running(1, s.limited("wait"))
	pid := s.processes()[0]
	require.Equal(s, "100", s.pidsMax(pid))
	memory := s.memoryMax(pid)
	require.Equal(s, strconv.Itoa(256*mib), memory)

	plan, err := box.Plan(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
	require.NoError(s, err)
	require.NotEmpty(s, plan.Changes)
	assert.Equal(s, "100", s.pidsMax(pid), "a plan writes nothing")

	result, err := box.Update(s.ctx(), plan.Wanted())
	require.NoError(s, err)
	assert.Len(s, result.Changes, len(plan.Changes))
	assert.Equal(s, "70", s.pidsMax(pid))
	assert.Equal(s, memory, s.memoryMax(pid), "what is not named stays")
	assert.Equal(s, cgroups.Count(70), box.Spec().Resources.PIDs.Max)

	result, err = box.Update(s.ctx(), plan.Wanted())
	require.NoError(s, err)
	assert.Empty(s, result.Changes, "what holds is not written again")

	_, err = box.Update(s.ctx(), cgroups.Resources{
		PIDs: cgroups.PIDs{Max: cgroups.Max()}, Memory: cgroups.Memory{Max: cgroups.Bytes(128 * mib)},
	})
	require.NoError(s, err)
	assert.Equal(s, "max", s.pidsMax(pid))
	assert.Equal(s, strconv.Itoa(128*mib), s.memoryMax(pid))
	st := s.check(box)
	assert.Equal(s, isolation.StateRunning, st.State)
	assert.Empty(s, st.Drift)
	s.destroyed(box)
}

// updateRefused: one limit that the kernel does not take, and all stay.
func updateRefused(s *stand) {
	box := s.running(1, s.limited("wait"))
	pid := s.processes()[0]
	impossible := cgroups.Resources{
		PIDs: cgroups.PIDs{Max: cgroups.Count(50)}, CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(4095)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(128 * mib)},
	}
	_, err := box.Update(s.ctx(), impossible)
	require.Error(s, err)
	assert.Equal(s, "100", s.pidsMax(pid))
	assert.Equal(s, strconv.Itoa(256*mib), s.memoryMax(pid))
	assert.Equal(s, cgroups.Count(100), box.Spec().Resources.PIDs.Max)

	_, err = box.Update(s.ctx(), cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(-1)}})
	require.ErrorIs(s, err, isolation.ErrInvalid)
	s.cancelling(func(ctx *ending) (done bool) {
		if _, err := box.Update(ctx, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(80)}}); err != nil {
			s.wasCut(err)
			assert.Equal(s, "100", s.pidsMax(pid), "cut off")
			return false
		}
		assert.Equal(s, "80", s.pidsMax(pid))
		return true
	})
}

// stat: the figures are the sandbox's, and reading them again allocates nothing.
func stat(s *stand) {
	box := s.running(1, s.limited("spin"))
	var st cgroups.Stats
	require.NoError(s, box.Stat(&st))
	before, ok := st.CPU.Usage.Value()
	require.True(s, ok, "CPU time")
	s.eventually(func() bool {
		require.NoError(s, box.Stat(&st))
		now, _ := st.CPU.Usage.Value()
		return now > before
	}, "more CPU time")
	if n, ok := st.PIDs.Current.Value(); assert.True(s, ok) {
		assert.NotZero(s, n)
		assert.Equal(s, cgroups.Count(100), st.PIDs.Max)
	}
	if n, ok := st.Memory.Current.Value(); assert.True(s, ok) {
		assert.NotZero(s, n)
		assert.Equal(s, cgroups.Bytes(256*mib), st.Memory.Max)
	}
	assert.Zero(s, testing.AllocsPerRun(20, func() {
		if err := box.Stat(&st); err != nil {
			s.Error(err)
		}
	}), "allocations")
}

// watch: it ends with its context, with its consumer, and with the sandbox, and
// tells of a freeze in between.
func watch(s *stand) {
	box := s.running(1, s.spec("a", "wait"))
	ctx, cancel := context.WithCancelCause(s.ctx())
	cancel(errCut)
	for ev, err := range box.Watch(ctx) {
		require.NoError(s, err)
		require.Fail(s, "an event after the end of the context", "%#v", ev)
	}

	var events sync.WaitGroup
	until := s.ctx()
	began := make(chan struct{})
	var seen []isolation.Event
	events.Go(func() {
		close(began)
		for ev, err := range box.Watch(until) {
			if !assert.NoError(s, err) {
				return
			}
			seen = append(seen, ev)
		}
	})
	<-began
	s.destroyed(box)
	events.Wait()
	assert.NoError(s, until.Err(), "the watch ends with the sandbox")
}

// watchExit: the exit is the last event, for one who was there and for one who
// comes later.
func watchExit(s *stand) {
	box := s.running(1, s.spec("a", "wait"))
	last := func() isolation.Event {
		var last isolation.Event
		for ev, err := range box.Watch(s.ctx(), elastic.Threshold{
			Resource: cgroups.PressureCPU, Stall: time.Second, Window: 2 * time.Second,
		}) {
			require.NoError(s, err)
			require.NotNil(s, ev)
			_, over := last.(isolation.Exited)
			require.False(s, over, "an event after the last one")
			last = ev
		}
		return last
	}
	pid := s.processes()[0]
	var killing sync.WaitGroup
	killing.Go(func() { assert.NoError(s, syscall.Kill(pid, syscall.SIGKILL)) })
	for range 2 {
		exited, ok := last().(isolation.Exited)
		require.True(s, ok, "the last event is the exit")
		assert.Equal(s, 137, exited.Status.Code)
		assert.False(s, exited.When().IsZero())
	}
	killing.Wait()
}

// beside: what may run beside everything does, and tells the truth or that there
// is none.
func beside(s *stand) {
	box := s.running(1, s.limited("wait"))
	over, stop := context.WithCancel(context.Background())
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			var st cgroups.Stats
			for over.Err() == nil {
				if _, err := box.Check(over); err != nil && over.Err() == nil {
					assert.ErrorIs(s, err, isolation.ErrNotFound)
				}
				if statter.has(s.driver) {
					_ = box.Stat(&st) // of a sandbox that may just go
				}
			}
		})
		if waiter.has(s.driver) {
			others.Go(func() { _, _ = box.Wait(over) })
		}
		if watcher.has(s.driver) {
			others.Go(func() {
				for _, err := range box.Watch(over) {
					assert.NoError(s, err)
				}
			})
		}
	}
	for i := range 20 {
		if updater.has(s.driver) {
			_, err := box.Update(s.ctx(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(uint64(60 + i))}})
			assert.NoError(s, err)
		}
		if freezer.has(s.driver) {
			assert.NoError(s, errors.Join(box.Freeze(s.ctx()), box.Thaw(s.ctx())))
		}
	}
	assert.NoError(s, box.Destroy(s.ctx()))
	stop()
	others.Wait()
	s.absent(box.ID())
}
