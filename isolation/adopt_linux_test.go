// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// theirs is a container that somebody else than the host under test made.
type theirs struct {
	*cgroups.Cgroup
	root *cgroups.Root
}

// foreign makes the group of such a container, under what there is of cpu,
// memory and pids.
func foreign(t testing.TB) *theirs {
	t.Helper()
	testutil.Require(t, testutil.Root)
	root, err := cgroups.Open("")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	want := root.Controllers() & cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory, cgroups.ControllerPIDs)
	g, err := root.Create(testutil.CgroupName(t), want)
	require.NoError(t, err)
	c := &theirs{g, root}
	t.Cleanup(func() {
		c.end(t)
		require.NoError(t, g.Close())
	})
	return c
}

// end ends the container as its owner does.
func (c *theirs) end(t testing.TB) {
	t.Helper()
	require.NoError(t, c.Kill(deadline(t)))
	require.NoError(t, c.Remove(deadline(t)))
}

// start starts a process of the container.
func (c *theirs) start(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := testutil.Child(t, "wait")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	require.NoError(t, c.Add(deadline(t), cmd.Process.Pid))
	return cmd
}

func (c *theirs) lives(t testing.TB, pids ...int) {
	t.Helper()
	got, err := c.Procs(nil)
	require.NoError(t, err)
	assert.Equal(t, pids, got)
}

// threads are the threads of a process; a program in Go has several.
func threads(t testing.TB, pid int) (tids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	require.NoError(t, err)
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		tids = append(tids, tid)
	}
	return tids
}

func adopt(t testing.TB, h *isolation.Host, id string, target isolation.Target) *isolation.Sandbox {
	t.Helper()
	s, err := h.Adopt(deadline(t), id, target)
	require.NoError(t, err)
	return s
}

func pidsMax(n uint64) cgroups.Resources {
	return cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(n)}}
}

func TestAdopt(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	pid := c.start(t).Process.Pid
	h := open(t)
	for name, target := range map[string]isolation.Target{
		"process": isolation.PID(pid), "cgroup": isolation.CgroupPath(c.Path()),
	} {
		t.Run(name, func(t *testing.T) {
			target.Labels = map[string]string{"app": "db"}
			s := adopt(t, h, "db", target)
			st, err := h.Check(deadline(t), "db")
			require.NoError(t, err)
			assert.True(t, st.Adopted)
			assert.Equal(t, "adopted", st.Driver)
			assert.Equal(t, isolation.StateRunning, st.State)
			assert.Equal(t, pid, st.PID)
			assert.Equal(t, 1, st.PIDs)
			assert.Equal(t, c.Path(), st.Cgroup)
			assert.Equal(t, target.Labels, st.Labels)

			_, err = c.Update(deadline(t), pidsMax(90)) // its owner
			require.NoError(t, err)
			plan, err := s.Plan(pidsMax(70))
			require.NoError(t, err)
			require.Len(t, plan.Changes, 1)
			assert.Equal(t, "90", plan.Changes[0].Old, "what the kernel holds, not what anybody remembers")
			_, err = s.Update(deadline(t), pidsMax(70))
			require.NoError(t, err)
			r, err := c.Resources()
			require.NoError(t, err)
			assert.Equal(t, cgroups.Count(70), r.PIDs.Max)
			var stats cgroups.Stats
			require.NoError(t, s.Stat(&stats))

			require.NoError(t, s.Freeze(deadline(t)))
			frozen, err := c.Frozen()
			require.NoError(t, err)
			assert.True(t, frozen)
			require.NoError(t, s.Thaw(deadline(t)))

			// Its life is its owner's.
			require.ErrorIs(t, s.Start(deadline(t)), isolation.ErrNotSupported)
			require.ErrorIs(t, s.Signal(deadline(t), syscall.SIGKILL), isolation.ErrNotSupported)
			_, err = s.Wait(deadline(t))
			require.ErrorIs(t, err, isolation.ErrNotSupported)
			require.ErrorIs(t, s.Cgroup().Kill(deadline(t)), isolation.ErrInvalid)

			again, err := h.Adopt(deadline(t), "db", target)
			require.NoError(t, err)
			assert.Same(t, s, again)
			require.NoError(t, h.Destroy(deadline(t), "db"))
			require.NoError(t, h.Destroy(deadline(t), "db"))
			_, err = h.Check(deadline(t), "db")
			require.ErrorIs(t, err, isolation.ErrNotFound)
			c.lives(t, pid)
		})
	}
}

// What was changed stays, or becomes what it was.
func TestRelease(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	pid := c.start(t).Process.Pid
	h := open(t)
	before := cgroups.Resources{
		PIDs: cgroups.PIDs{Max: cgroups.Count(90)}, CPU: cgroups.CPU{Weight: cgroups.WeightOf(200)},
	}
	_, err := c.Update(deadline(t), before)
	require.NoError(t, err)
	found, err := c.Resources()
	require.NoError(t, err)
	ours := cgroups.Resources{
		PIDs:   cgroups.PIDs{Max: cgroups.Count(50)},
		CPU:    cgroups.CPU{Max: cgroups.CPUs(0.5), Weight: cgroups.WeightOf(50)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(512 << 20)},
	}
	s := adopt(t, h, "db", isolation.PID(pid))
	_, err = s.Update(deadline(t), ours)
	require.NoError(t, err)
	require.NoError(t, s.Release(deadline(t), isolation.KeepLimits))
	require.NoError(t, s.Release(deadline(t), isolation.KeepLimits), "twice")
	now, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, ours.PIDs, now.PIDs)
	assert.Equal(t, ours.CPU.Max, now.CPU.Max)

	_, err = c.Update(deadline(t), found)
	require.NoError(t, err)
	s = adopt(t, h, "db", isolation.PID(pid))
	_, err = s.Update(deadline(t), ours)
	require.NoError(t, err)
	if _, err := s.Update(deadline(t), cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}}); !errors.Is(err, isolation.ErrNotSupported) {
		require.NoError(t, err)
	}
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	now, err = c.Resources()
	require.NoError(t, err)
	assert.True(t, found.Equal(now), "%+v, was %+v", now, found)
	c.lives(t, pid)
	_, err = s.Check(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotFound)

	own := started(t, h, spec(t, "own", "wait"))
	require.ErrorIs(t, own.Release(deadline(t), isolation.KeepLimits), isolation.ErrInvalid)
}

// An agent that restarts finds its adopted containers, and drops those that are
// gone.
func TestAdoptedSurviveTheAgent(t *testing.T) {
	testutil.CheckLeaks(t)
	stays, goes, remade := foreign(t), foreign(t), foreign(t)
	pid := stays.start(t).Process.Pid
	goes.start(t)
	remade.start(t)
	cfg := config(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	_, err = adopt(t, h, "stays", isolation.PID(pid)).Update(deadline(t), pidsMax(44))
	require.NoError(t, err)
	adopt(t, h, "goes", isolation.CgroupPath(goes.Path()))
	adopt(t, h, "remade", isolation.CgroupPath(remade.Path()))
	require.NoError(t, h.Close())
	goes.end(t)
	remade.end(t)
	g, err := remade.root.Create(remade.Path(), remade.Controllers())
	require.NoError(t, err)
	defer func() {
		require.NoError(t, g.Remove(deadline(t)))
		require.NoError(t, g.Close())
	}()

	h = openWith(t, cfg)
	got := map[string]bool{}
	for _, r := range h.Recovered() {
		require.NoError(t, r.Err)
		assert.NotEmpty(t, r.Reason)
		got[r.ID] = r.Adopted
	}
	assert.Equal(t, map[string]bool{"stays": true, "goes": false, "remade": false}, got)
	s, err := h.Sandbox(deadline(t), "stays")
	require.NoError(t, err)
	st, err := s.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, pid, st.PID)
	assert.True(t, st.Adopted)
	result, err := s.Update(deadline(t), pidsMax(44))
	require.NoError(t, err)
	assert.Empty(t, result.Changes)
	_, err = h.Adopt(deadline(t), "twin", isolation.PID(pid))
	require.ErrorIs(t, err, isolation.ErrExists, "the claim is found again too")
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	r, err := stays.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Max(), r.PIDs.Max, "what it came with is found again too")
	there, err := g.Procs(nil)
	require.NoError(t, err)
	assert.Empty(t, there)
}

func TestAdoptRefuses(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	pid := c.start(t).Process.Pid
	cfg := config(t)
	h := openWith(t, cfg)
	own := started(t, h, spec(t, "own", "wait"))
	st, err := own.Check(deadline(t))
	require.NoError(t, err)
	empty := foreign(t)
	thread := 0
	for _, tid := range threads(t, pid) {
		if tid != pid {
			thread = tid
		}
	}
	dead := c.start(t)
	require.NoError(t, dead.Process.Kill())
	_, _ = dead.Process.Wait()

	for name, target := range map[string]isolation.Target{
		"nothing":         {},
		"both":            {PID: pid, Cgroup: c.Path()},
		"negative pid":    isolation.PID(-1),
		"this process":    isolation.PID(os.Getpid()),
		"a thread":        isolation.PID(thread),
		"the top":         isolation.CgroupPath("/"),
		"above":           isolation.CgroupPath("../x"),
		"inside out":      isolation.CgroupPath(c.Path() + "/../" + c.Path()),
		"absolute":        isolation.CgroupPath("/" + c.Path()),
		"NUL":             isolation.CgroupPath(c.Path() + "\x00"),
		"control":         isolation.CgroupPath("a\nb"),
		"long":            isolation.CgroupPath(strings.Repeat("x/", 4000) + "x"),
		"nobody there":    isolation.CgroupPath(empty.Path()),
		"labels":          {PID: pid, Labels: map[string]string{"a=b": ""}},
		"id":              isolation.PID(pid),
		"id of a path":    isolation.PID(pid),
		"id that is long": isolation.PID(pid),
	} {
		id := map[string]string{"id": "", "id of a path": "../x", "id that is long": strings.Repeat("x", 65)}[name]
		if !strings.HasPrefix(name, "id") {
			id = "db"
		}
		_, err := h.Adopt(deadline(t), id, target)
		require.ErrorIs(t, err, isolation.ErrInvalid, name)
	}
	_, err = h.Adopt(deadline(t), "db", isolation.PID(dead.Process.Pid))
	require.Error(t, err)
	assert.True(t, errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrNotExist), err)
	_, err = h.Adopt(deadline(t), "db", isolation.CgroupPath(c.Path()+"/none"))
	require.ErrorIs(t, err, os.ErrNotExist)

	var taken *isolation.TakenError
	for name, target := range map[string]isolation.Target{
		"our process": isolation.PID(st.PID),
		"our group":   isolation.CgroupPath(st.Cgroup),
		"our parent":  isolation.CgroupPath(cfg.Parent),
	} {
		_, err := h.Adopt(deadline(t), "db", target)
		require.ErrorAs(t, err, &taken, name)
		require.ErrorIs(t, err, isolation.ErrExists, name)
	}
	adopt(t, h, "db", isolation.PID(pid))
	_, err = h.Adopt(deadline(t), "db2", isolation.CgroupPath(c.Path()))
	require.ErrorAs(t, err, &taken)
	assert.Contains(t, taken.By, "db")
	_, err = h.Adopt(deadline(t), "own", isolation.PID(pid))
	require.ErrorIs(t, err, isolation.ErrExists)
	_, err = h.Create(deadline(t), spec(t, "db", "wait"))
	require.ErrorIs(t, err, isolation.ErrExists)
	_, err = h.Create(deadline(t), isolation.Spec{ID: "x", Driver: "adopted"})
	require.ErrorIs(t, err, isolation.ErrInvalid)
	c.lives(t, pid)

	over, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := h.Sandbox(deadline(t), "db")
	require.NoError(t, err)
	_, err = s.Update(over, pidsMax(3))
	require.ErrorIs(t, err, context.Canceled)
}

// A container that is gone makes room for the next of the same id.
func TestAdoptAfterARestartOfTheContainer(t *testing.T) {
	testutil.CheckLeaks(t)
	old, renewed := foreign(t), foreign(t)
	old.start(t)
	pid := renewed.start(t).Process.Pid
	h := open(t)
	s := adopt(t, h, "db", isolation.CgroupPath(old.Path()))
	_, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
	require.ErrorIs(t, err, isolation.ErrExists)
	old.end(t)
	_, err = s.Check(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotFound)
	_, err = s.Update(deadline(t), pidsMax(5))
	require.ErrorIs(t, err, cgroups.ErrGone)

	again := adopt(t, h, "db", isolation.PID(pid))
	assert.NotSame(t, s, again)
	_, err = again.Update(deadline(t), pidsMax(5))
	require.NoError(t, err)
	_, err = s.Update(deadline(t), pidsMax(6))
	require.ErrorIs(t, err, isolation.ErrNotFound, "the old handle is of the old container")
	require.NoError(t, s.Destroy(deadline(t)))
	st, err := h.Check(deadline(t), "db")
	require.NoError(t, err)
	assert.Equal(t, pid, st.PID)
}

// The container lives as long as one of its processes does.
func TestWatchAdopted(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	first, second := c.start(t), c.start(t)
	h := open(t)
	s := adopt(t, h, "db", isolation.PID(first.Process.Pid))
	require.NoError(t, first.Process.Kill())
	_, _ = first.Process.Wait()
	require.Eventually(t, func() bool {
		st, err := s.Check(deadline(t))
		return err == nil && st.PID == second.Process.Pid && st.State == isolation.StateRunning
	}, testutil.Patience(5*time.Second), 5*time.Millisecond)

	ctx := deadline(t)
	events := make(chan isolation.Event, 16)
	go func() {
		defer close(events)
		for ev, err := range s.Watch(ctx) {
			if err != nil {
				t.Error(err)
				return
			}
			events <- ev
		}
	}()
	require.NoError(t, second.Process.Kill())
	_, _ = second.Process.Wait()
	var last isolation.Event
	for last = range events {
	}
	require.IsType(t, isolation.Exited{}, last)
	assert.False(t, last.(isolation.Exited).Status.Known, "only its parent knows how it ended") //nolint:forcetypeassert
	st, err := s.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateExited, st.State)
	assert.Zero(t, st.PID)

	// Its owner starts it again in the same group, and then removes it.
	third := c.start(t)
	st, err = s.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	ended := make(chan isolation.Event, 1)
	go func() {
		var last isolation.Event
		for ev, err := range s.Watch(ctx) {
			assert.NoError(t, err)
			if _, quiet := ev.(isolation.Pressure); !quiet {
				last = ev
			}
		}
		ended <- last
	}()
	require.NoError(t, third.Process.Kill())
	_, _ = third.Process.Wait()
	c.end(t)
	switch last := (<-ended).(type) {
	case isolation.Exited, isolation.Gone:
	default:
		t.Errorf("the last event is %T", last)
	}
}

// Containers that end while they are adopted, changed and released leave an
// error that says so, and nothing of anybody else is touched.
func TestAdoptRacesWithTheEnd(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	neighbour := foreign(t)
	pid := neighbour.start(t).Process.Pid
	h := open(t)
	rounds := 30
	if testutil.Emulated() {
		rounds = 5
	}
	for range rounds {
		g, err := neighbour.root.Create(neighbour.Path()+"/short", neighbour.Controllers())
		if errors.Is(err, syscall.EBUSY) { // v2: no group below one with processes
			g, err = neighbour.root.Create(neighbour.Path()+"-short", neighbour.Controllers())
		}
		require.NoError(t, err)
		c := &theirs{g, neighbour.root}
		target := isolation.PID(c.start(t).Process.Pid)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.end(t)
		}()
		for range 3 {
			s, err := h.Adopt(deadline(t), "db", target)
			if err == nil {
				_, err = s.Update(deadline(t), pidsMax(9))
			}
			ended := err == nil
			for _, e := range []error{cgroups.ErrGone, isolation.ErrNotFound, os.ErrNotExist, syscall.ESRCH, syscall.EAGAIN, isolation.ErrInvalid} {
				ended = ended || errors.Is(err, e)
			}
			assert.True(t, ended, err)
		}
		<-done
		require.NoError(t, h.Destroy(deadline(t), "db"))
		require.NoError(t, g.Close())
	}
	neighbour.lives(t, pid)
	r, err := neighbour.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Max(), r.PIDs.Max)
}

// TestReleaseEndsAWatch: who watches a container that is let go of hears no more, though
// it lives on.
func TestReleaseEndsAWatch(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	first := c.start(t)
	s := adopt(t, open(t), "db", isolation.PID(first.Process.Pid))
	ctx := deadline(t)
	_, err := s.Update(ctx, pidsMax(70))
	require.NoError(t, err)
	began, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for range s.Watch(ctx) {
			select {
			case began <- struct{}{}:
			default:
			}
		}
	}()
	limit := uint64(80)
	require.Eventually(t, func() bool {
		limit++
		_, err := c.Update(ctx, pidsMax(limit)) // its owner, which is drift
		return err == nil && len(began) > 0
	}, testutil.Patience(5*time.Second), 20*time.Millisecond)
	require.NoError(t, s.Release(deadline(t), isolation.KeepLimits))
	<-ended
	require.NoError(t, ctx.Err(), "it was the deadline that ended it")
	c.lives(t, first.Process.Pid)
}
