// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// execGroups are the names of groups of further processes below the sandbox's.
func execGroups(t *testing.T, cfg isolation.Config, id string) (found []string) {
	t.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		for _, name := range names(filepath.Join(m.Path, cfg.Parent, id)) {
			if strings.HasPrefix(name, "exec-") {
				found = append(found, name)
			}
		}
	}
	return found
}

// groupsOf are the paths of the process's groups that are not tops.
func groupsOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	return string(text)
}

// TestExecGroup: a further process is in a group of its own in every tree, with what
// it starts; Kill ends these, and leaves the workload alone.
func TestExecGroup(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h := openWith(t, cfg)
	for _, subgroups := range []bool{false, true} {
		s := spec(t, fmt.Sprintf("apart-%v", subgroups), "wait")
		s.Subgroups = subgroups
		box := waits(t, h, s)
		_, version, ok := h.Root().Where(cgroups.ControllerPIDs)
		v2 := ok && version == 2
		var limits cgroups.Resources
		if subgroups || !v2 {
			limits.PIDs.Max = cgroups.Count(40)
			limits.Memory.Max = cgroups.Bytes(64 << 20)
		}
		r, w, err := os.Pipe()
		require.NoError(t, err)
		e, err := box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "forks")}, limits, nil, w, os.Stderr)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		if !limits.IsZero() {
			line, err := bufio.NewReader(r).ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, "refused\n", line, "the limit is the group's")
			got, err := e.Cgroup().Resources(cgroups.ControllerPIDs, cgroups.ControllerMemory)
			require.NoError(t, err)
			assert.Equal(t, limits, got.Pick(limits.Names()...))
		}
		at := e.Cgroup().Path()
		assert.Equal(t, box.Cgroup().Path(), filepath.Dir(at))
		for line := range strings.Lines(groupsOf(t, e.PID())) {
			if strings.Contains(line, box.Cgroup().Path()) {
				assert.Contains(t, line, at, "in the trees of the sandbox")
			}
		}
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Greater(t, st.PIDs, 1)
		assert.NotEmpty(t, execGroups(t, cfg, s.ID))

		require.NoError(t, e.Kill(deadline(t)))
		end, err := e.Wait(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, int(syscall.SIGKILL), end.Signal)
		assert.False(t, end.OOM)
		require.NoError(t, e.Kill(deadline(t)), "it is gone")
		_, err = io.Copy(io.Discard, r)
		require.NoError(t, err, "nobody has the pipe any more")
		require.NoError(t, r.Close())
		assert.Empty(t, execGroups(t, cfg, s.ID))
		st, err = box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, isolation.StateRunning, st.State)
		assert.Equal(t, 1, st.PIDs, "the workload")
		assert.Empty(t, st.Drift)

		plain, err := box.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")})
		require.NoError(t, err)
		assert.Nil(t, plain.Cgroup())
		assert.ErrorIs(t, plain.Kill(deadline(t)), isolation.ErrNotSupported)
		assert.Equal(t, groupsOf(t, st.PID), groupsOf(t, plain.PID()))

		left, err := box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")}, cgroups.Resources{})
		require.NoError(t, err)
		require.NoError(t, box.Destroy(deadline(t)))
		_, err = left.Wait(deadline(t))
		require.NoError(t, err, "it ends with the sandbox")
		nothingOf(t, cfg, s.ID)
	}
}

// TestExecGroupLeavesNothing: what a process leaves behind in its group ends with it,
// and so does the group; of one that fails to start there is none.
func TestExecGroupLeavesNothing(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h := openWith(t, cfg)
	s := spec(t, "probe", "wait")
	s.Namespaces.PID = isolation.NamespaceHost
	box := waits(t, h, s)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	e, err := box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "leave")}, cgroups.Resources{}, nil, w)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	end, err := e.Wait(deadline(t))
	require.NoError(t, err)
	assert.Zero(t, end.Code)
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		assert.Contains(t, string(stat), ") Z ")
	}
	assert.Empty(t, execGroups(t, cfg, "probe"))

	_, err = box.ExecGroup(deadline(t), isolation.Process{Args: []string{"/nowhere"}}, cgroups.Resources{})
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.Empty(t, execGroups(t, cfg, "probe"))
	_, err = box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")},
		cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(20000)}})
	require.ErrorIs(t, err, isolation.ErrInvalid)
	_, err = box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "wait")},
		cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(20)}})
	if h.Root().Mode() == cgroups.Unified {
		require.ErrorIs(t, err, isolation.ErrNotSupported)
		assert.ErrorContains(t, err, "Spec.Subgroups")
	} else {
		require.NoError(t, err)
	}
}

// TestExecGroupOutOfMemory: a further process that takes too much ends, and the
// workload does not notice.
func TestExecGroupOutOfMemory(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	h := open(t)
	s := spec(t, "hungry", "wait")
	s.Subgroups = true
	s.Resources.Memory.Max = cgroups.Bytes(256 << 20)
	box := waits(t, h, s)
	e, err := box.ExecGroup(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "hog")},
		cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(32 << 20)}})
	require.NoError(t, err)
	end, err := e.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, int(syscall.SIGKILL), end.Signal)
	assert.True(t, end.OOM)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
}

// childExecAgent is an agent that starts a sandbox and processes in groups below it,
// says their numbers, and waits to be killed.
func childExecAgent(args []string) int {
	ctx := context.Background()
	h, err := isolation.Open(ctx, isolation.Config{Root: args[0], Parent: args[1]})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	wait := isolation.Process{Args: []string{os.Args[0], os.Args[1], "wait"}}
	s, err := h.Create(ctx, isolation.Spec{ID: "web", Process: wait, Subgroups: true, Namespaces: isolation.Namespaces{PID: isolation.NamespaceHost}})
	if err == nil {
		err = s.Start(ctx)
	}
	for range 2 {
		if err == nil {
			var e *isolation.Exec
			if e, err = s.ExecGroup(ctx, wait, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}}); err == nil {
				fmt.Println(e.PID())
			}
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return pause()
}

// TestExecGroupAfterCrash: the groups of an agent that died are found: that of a
// process which has ended meanwhile goes at once, the other with its process.
func TestExecGroupAfterCrash(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	agent := testutil.Child(t, "exec-agent", cfg.Root, cfg.Parent)
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	var pids [2]int
	_, err = fmt.Fscan(out, &pids[0], &pids[1])
	require.NoError(t, err)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))

	h := openWith(t, cfg)
	st, err := h.Check(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	found := func(n int) func() bool {
		return func() bool {
			groups := map[string]bool{}
			for _, name := range execGroups(t, cfg, "web") {
				groups[name] = true
			}
			return len(groups) == n
		}
	}
	require.Eventually(t, found(1), testutil.Patience(10*time.Second), 5*time.Millisecond, "the ended one's is removed")
	require.NoError(t, syscall.Kill(pids[1], 0), "the other lives")
	require.NoError(t, syscall.Kill(pids[1], syscall.SIGKILL))
	require.Eventually(t, found(0), testutil.Patience(10*time.Second), 5*time.Millisecond)
	st, err = h.Check(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	assert.Equal(t, 1, st.PIDs)
	require.NoError(t, h.Destroy(deadline(t), "web"))
	nothingOf(t, cfg, "web")
}
