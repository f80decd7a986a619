// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// killers are the ways to kill, each of which must work wherever it can be
// tried.
func killers(r *Root) map[string]func(context.Context, *Cgroup) error {
	all := map[string]func(context.Context, *Cgroup) error{
		"kill": func(ctx context.Context, c *Cgroup) error { return c.Kill(ctx) },
		"hunt": func(ctx context.Context, c *Cgroup) error { return c.hunt(ctx) },
	}
	if r.where[ControllerFreezer] != nil {
		twins := map[*Cgroup]*Cgroup{}
		var mu sync.Mutex
		all["legacy"] = func(ctx context.Context, c *Cgroup) error {
			mu.Lock()
			if twins[c] == nil {
				twins[c] = legacyTwin(c)
			}
			twin := twins[c]
			mu.Unlock()
			return twin.Kill(ctx)
		}
	}
	return all
}

// legacyTwin is the same group as a root without a unified tree would have it.
func legacyTwin(c *Cgroup) *Cgroup {
	r := &Root{mode: Legacy, where: c.root.where}
	for _, h := range c.root.hierarchies {
		if !h.v2 {
			r.hierarchies = append(r.hierarchies, h)
		}
	}
	twin := &Cgroup{root: r, path: c.path}
	for _, n := range c.places() {
		if !n.in.v2 {
			twin.place(n, c.Controllers()&n.in.controllers)
		}
	}
	return twin
}

// below makes a directory below each of the group's.
func below(tb testing.TB, c *Cgroup, name string) {
	tb.Helper()
	for _, n := range c.places() {
		require.NoError(tb, n.dir.Mkdir(name, 0o755))
	}
	if n := c.node(ControllerCPUSet); n != nil && !n.in.v2 {
		sub, err := n.dir.OpenDir(name)
		require.NoError(tb, err)
		defer sub.Close()
		require.NoError(tb, (&node{in: n.in, dir: sub}).inheritCPUSet(c.path+"/"+name))
	}
}

// moveBelow moves a process there.
func moveBelow(tb testing.TB, c *Cgroup, name string, pid int) {
	tb.Helper()
	for _, n := range c.places() {
		require.NoError(tb, n.dir.WriteFile(name+"/"+fileProcs, strconv.Itoa(pid)))
	}
}

// Nobody in the group gets away: who left his parent and session, forks as fast as
// he can, is frozen by us or by himself, is stopped, or is in a group that the
// workload made (faults 20 to 24 and 27).
func TestKill(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	workloads := map[string]func(*testing.T, *Cgroup){
		"nobody":  func(*testing.T, *Cgroup) {},
		"one":     func(t *testing.T, c *Cgroup) { spawn(t, c, "read x") },
		"escapee": escapee,
		"stopped": func(t *testing.T, c *Cgroup) {
			s := spawn(t, c, "kill -STOP $$")
			eventually(t, "stop", func() bool { return process(s.Process.Pid).State == "T" })
		},
		"frozen": func(t *testing.T, c *Cgroup) {
			spawn(t, c, "read x")
			require.NoError(t, c.Freeze(t.Context()))
		},
		"frozen below": frozenBelow,
		"below": func(t *testing.T, c *Cgroup) {
			below(t, c, "a")
			below(t, c, "a/b")
			s := spawn(t, c, "read x")
			moveBelow(t, c, "a/b", s.Process.Pid)
		},
		"fork bomb": forkBomb,
	}
	for how, kill := range killers(r) {
		for name, workload := range workloads {
			t.Run(how+"/"+name, func(t *testing.T) {
				testutil.CheckLeaks(t)
				c := newGroup(t, r, r.Controllers())
				workload(t, c)
				ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(20*time.Second))
				defer cancel()
				require.NoError(t, kill(ctx, c))
				pids, err := everyone(c.places())
				require.NoError(t, err)
				assert.Empty(t, pids)
				is, err := c.Populated()
				require.NoError(t, err)
				assert.False(t, is)
				limit, err := c.node(ControllerPIDs).word("pids.max")
				require.NoError(t, err)
				assert.NotEqual(t, "0", limit, "the brake is off")
				s := spawn(t, c, "read x")
				assert.Equal(t, []int{s.Process.Pid}, procs(t, c), "the group can be used again")
			})
		}
	}
}

// escapee leaves a process in another session whose parent is gone.
func escapee(t *testing.T, c *Cgroup) {
	s := spawn(t, c, "(setsid sleep 1000 &) & sleep 1000 & wait $!; read x")
	eventually(t, "four processes", func() bool { return len(procs(t, c)) >= 3 })
	require.NotEmpty(t, s.Process.Pid)
}

// frozenBelow has a process in a group below that the workload froze itself.
func frozenBelow(t *testing.T, c *Cgroup) {
	below(t, c, "a")
	below(t, c, "a/b")
	s := spawn(t, c, "read x")
	moveBelow(t, c, "a/b", s.Process.Pid)
	if n := c.node(ControllerFreezer); n != nil {
		require.NoError(t, n.dir.WriteFile("a/b/"+fileFreezer, "FROZEN"))
		eventually(t, "frozen", func() bool {
			b, err := n.dir.ReadFile("a/b/"+fileFreezer, nil)
			return err == nil && string(b) == "FROZEN\n"
		})
		return
	}
	require.NoError(t, c.unified().dir.WriteFile("a/b/"+fileFreeze, "1"))
	eventually(t, "frozen", func() bool {
		b, err := c.unified().dir.ReadFile("a/b/"+fileEvents, nil)
		return err == nil && strings.Contains(string(b), "frozen 1")
	})
}

func init() { children["bomb"] = bomb }

// bomb forks for ever, and so do its children. They are made without the Go
// runtime's knowledge and do nothing but raw system calls.
func bomb([]string) int {
	signal.Ignore(syscall.SIGCHLD) // the kernel reaps
	_, _ = os.Stdin.Read(make([]byte, 1))
	pause := syscall.Timespec{Nsec: 1e6}
	for {
		child, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		switch {
		case errno != 0:
			_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		case child == 0 && pause.Nsec&1 == 0:
			pause.Nsec++ // its children die young
		case child == 0:
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// forkBomb has 100 processes at most in the group, which fork as fast as they can.
func forkBomb(t *testing.T, c *Cgroup) {
	require.NoError(t, c.node(ControllerPIDs).dir.WriteFile("pids.max", "100"))
	b := testutil.Child(t, "bomb")
	in, err := b.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, b.Start())
	require.NoError(t, c.Add(t.Context(), b.Process.Pid))
	require.NoError(t, in.Close())
	eventually(t, "many", func() bool { return len(procs(t, c)) > 20 })
}

// Who waits in the kernel for something that no signal ends is named.
func TestKillInVain(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("freezer"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	elsewhere := newGroup(t, r, ControllersOf(ControllerFreezer))
	freezer := elsewhere.node(ControllerFreezer)
	c := newGroup(t, r, ControllersOf(ControllerPIDs))
	s := spawn(t, c, "read x")
	// Frozen through a group that is not c's, it does not die.
	require.NoError(t, freezer.add(t.Context(), s.Process.Pid))
	require.NoError(t, freezer.freezeLegacy(t.Context()))
	for _, kill := range []func(context.Context) error{c.Kill, c.hunt, legacyTwin(c).Kill} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := kill(ctx)
		cancel()
		var left *RemainingError
		require.ErrorAs(t, err, &left)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, left.Processes, 1)
		assert.Equal(t, s.Process.Pid, left.Processes[0].PID)
		assert.Equal(t, "sh", left.Processes[0].Name)
		assert.Equal(t, "D", left.Processes[0].State)
		assert.Contains(t, err.Error(), strconv.Itoa(s.Process.Pid)+" (sh) D")
	}
	limit, err := c.node(ControllerPIDs).word("pids.max")
	require.NoError(t, err)
	assert.Equal(t, "max", limit)
	require.NoError(t, freezer.thawLegacy())
	require.NoError(t, c.Kill(t.Context()), "it is dying already")
}

// Killers may overlap, and a group may go away under them (fault 28).
func TestKillRace(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for how, kill := range killers(r) {
		if how == "hunt" {
			continue // the part of kill that holds a lock
		}
		c, err := r.Create(testutil.CgroupName(t), r.Controllers())
		require.NoError(t, err)
		forkBomb(t, c)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { assert.NoError(t, kill(t.Context(), c)) })
		}
		wg.Wait()
		limit, err := c.node(ControllerPIDs).word("pids.max")
		require.NoError(t, err)
		assert.Equal(t, "100", limit)
		require.NoError(t, c.Remove(t.Context()))
		require.NoError(t, kill(t.Context(), c), "gone")
		require.NoError(t, c.Close())
	}
}

// A group that is gone from some trees is still killed in the others.
func TestKillInOneTree(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for i := range newGroup(t, r, r.Controllers()).places() {
		c := newGroup(t, r, r.Controllers())
		n := c.places()[i]
		s := start(t, "read x")
		require.NoError(t, n.add(t.Context(), s.Process.Pid))
		for _, other := range c.places() {
			if other != n {
				removeRaw(t, other.in, c.path)
			}
		}
		require.NoError(t, c.Kill(t.Context()), n.dir.Path())
		_ = s.Wait()
		assert.Equal(t, "signal: killed", s.ProcessState.String())
	}
}

func TestKillSelf(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerPIDs))
	all, err := memberships("self")
	require.NoError(t, err)
	require.NoError(t, c.Add(t.Context(), os.Getpid()))
	defer func() {
		for _, n := range c.places() {
			assert.NoError(t, n.in.putBack(context.Background(), os.Getpid(), all))
		}
	}()
	require.ErrorIs(t, c.Kill(t.Context()), ErrInvalid)
	require.ErrorIs(t, c.Freeze(t.Context()), ErrInvalid)
}

// A process outside that has got a number of the list is not harmed.
func TestSignalOthers(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerPIDs))
	in := spawn(t, c, "read x")
	out := start(t, "read x")
	require.NoError(t, c.signal([]int{in.Process.Pid, out.Process.Pid, 1 << 22}))
	_ = in.Wait()
	assert.Equal(t, "signal: killed", in.ProcessState.String())
	out.begin(t)
	require.NoError(t, out.Process.Signal(syscall.Signal(0)), "alive")
}
