// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/crash/truth"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forgetLast takes the last n lines of a record away, as if the process had died
// before it could write them.
func forgetLast(t *testing.T, cfg isolation.Config, id string, n int) {
	t.Helper()
	path := filepath.Join(cfg.Root, "sandboxes", id+".state")
	lines := strings.SplitAfter(strings.TrimSuffix(string(must(os.ReadFile(path))), "\n"), "\n")
	text := strings.TrimSuffix(strings.Join(lines[:len(lines)-n], ""), "\n") + "\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// An agent that dies in the middle of an update leaves a mixture of old and new
// limits, which the next one makes the old ones: those that were set, and those
// that nobody had set.
func TestUpdateCutOffIsTakenBack(t *testing.T) {
	for _, shared := range []bool{false, true} {
		cfg := config(t)
		cfg.Shared = shared
		h := must(isolation.Open(deadline(t), cfg))
		s := spec(t, "web", "wait")
		s.Resources.PIDs.Max = cgroups.Count(50)
		box := create(t, h, s)
		before, err := box.Limits()
		require.NoError(t, err)
		_, err = box.Update(deadline(t), cgroups.Resources{
			PIDs: cgroups.PIDs{Max: cgroups.Count(60)}, CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)},
		})
		require.NoError(t, err)
		require.NoError(t, h.Close())
		forgetLast(t, cfg, "web", 1)

		h = openWith(t, cfg)
		require.Len(t, h.Recovered(), 1)
		assert.Contains(t, h.Recovered()[0].String(), "adopted: it is whole, and an update that was cut off was taken back")
		box = must(h.Sandbox(deadline(t), "web"))
		after, err := box.Limits()
		require.NoError(t, err)
		assert.Equal(t, before.PIDs, after.PIDs)
		assert.Equal(t, before.CPU, after.CPU)
		assert.Equal(t, s.Resources, box.Spec().Resources)
	}
}

// In a state directory that is shared, the one who comes next takes it back.
func TestUpdateCutOffInSharedState(t *testing.T) {
	cfg := config(t)
	cfg.Shared = true
	h := openWith(t, cfg)
	s := spec(t, "web", "wait")
	s.Resources.PIDs.Max = cgroups.Count(50)
	box := create(t, h, s)
	other := must(isolation.Open(deadline(t), cfg))
	_, err := must(other.Sandbox(deadline(t), "web")).Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	require.NoError(t, other.Close())
	forgetLast(t, cfg, "web", 1)

	_, err = box.Update(deadline(t), cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)}})
	require.NoError(t, err)
	now, err := box.Limits()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Count(50), now.PIDs.Max)
}

// A claim whose making was cut off is nobody's.
func TestClaimCutOffIsTakenBack(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := create(t, h, spec(t, "web", "wait"))
	before, err := box.Limits()
	require.NoError(t, err)
	_, err = box.Claim(deadline(t), isolation.Claim{
		Owner: "burst", Lease: time.Hour, Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)}},
	})
	require.NoError(t, err)
	require.NoError(t, h.Close())
	forgetLast(t, cfg, "web", 1)

	h = openWith(t, cfg)
	box = must(h.Sandbox(deadline(t), "web"))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Claims)
	after, err := box.Limits()
	require.NoError(t, err)
	assert.Equal(t, before.CPU, after.CPU)
}

// What a start sets once the process runs is set by the next agent, if the one
// that started it died too soon.
func TestStartCutOffIsFinished(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("memory"))
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	s := spec(t, "web", "wait")
	s.Resources.Memory.OOMGroup = cgroups.On
	started(t, h, s)
	file := filepath.Join(someTree(t, cfg, "web"), "memory.oom.group")
	require.Equal(t, "1\n", string(must(os.ReadFile(file))))
	require.NoError(t, os.WriteFile(file, []byte("0"), 0))
	require.NoError(t, h.Close())
	openWith(t, cfg)
	assert.Equal(t, "1\n", string(must(os.ReadFile(file))))
}

// rates are what the kernel limits the network of a sandbox to, in bits a second,
// by an inventory of its own; 0 is no limit.
func rates(t *testing.T, cfg isolation.Config, box *isolation.Sandbox) (egress, ingress uint64) {
	t.Helper()
	machine, err := truth.Rates(cfg.NetworkNamespace)
	require.NoError(t, err)
	pins := must(os.ReadDir(cfg.Network.Pins))
	require.Len(t, pins, 1)
	inside, err := truth.Rates(filepath.Join(cfg.Network.Pins, pins[0].Name()))
	require.NoError(t, err)
	in := box.Interfaces()[0]
	return inside[in.Name], machine[in.Machine]
}

// An agent that dies in the middle of an UpdateNetwork leaves one of two limits
// changed, or both; the next one makes them the old ones, also where there was none
// (fault 2).
func TestUpdateNetworkCutOffIsTakenBack(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			cfg, _ := networked(t)
			cfg.Shared = shared
			h := must(isolation.Open(deadline(t), cfg))
			s := routed(t, "web")
			s.Network.Interfaces[0].Bandwidth.Ingress = netns.Limit{}
			box := create(t, h, s)
			require.NoError(t, box.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(2e8)}))
			both := netns.Bandwidth{Egress: netns.BitsPerSecond(5e7), Ingress: netns.BitsPerSecond(5e7)}
			require.NoError(t, box.UpdateNetwork(deadline(t), "", both))
			egress, ingress := rates(t, cfg, box)
			require.Equal(t, []uint64{5e7, 5e7}, []uint64{egress, ingress})
			require.NoError(t, h.Close())
			forgetLast(t, cfg, "web", 1)

			h = openWith(t, cfg)
			require.Len(t, h.Recovered(), 1)
			assert.Contains(t, h.Recovered()[0].String(), "adopted: it is whole, and network limits that were cut off were taken back")
			box = must(h.Sandbox(deadline(t), "web"))
			egress, ingress = rates(t, cfg, box)
			assert.Equal(t, []uint64{2e8, 0}, []uint64{egress, ingress})
			assert.Equal(t, netns.BitsPerSecond(2e8), box.Spec().Network.Interfaces[0].Bandwidth.Egress)
			assert.True(t, box.Spec().Network.Interfaces[0].Bandwidth.Ingress.IsZero())
		})
	}
}

// An agent that dies while it freezes a sandbox, or thaws it, leaves nothing
// frozen that nobody knows of (fault 13).
func TestFreezeCutOff(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for name, c := range map[string]struct {
		did   string
		until func(*isolation.Sandbox) error // the operation that is cut off
	}{
		"freeze": {"a freeze that was cut off was taken back", func(s *isolation.Sandbox) error { return s.Freeze(deadline(t)) }},
		"thaw": {"a thaw that was cut off was finished", func(s *isolation.Sandbox) error {
			if err := s.Freeze(deadline(t)); err != nil {
				return err
			}
			if err := s.Thaw(deadline(t)); err != nil {
				return err
			}
			return s.Cgroup().Freeze(deadline(t)) // as if it had not come to that
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			h := must(isolation.Open(deadline(t), cfg))
			box := started(t, h, spec(t, "web", "wait"))
			require.NoError(t, c.until(box))
			require.NoError(t, h.Close())
			forgetLast(t, cfg, "web", 1)
			h = openWith(t, cfg)
			assert.Contains(t, h.Recovered()[0].String(), "adopted: it is whole, and "+c.did)
			assert.False(t, must(h.Check(deadline(t), "web")).Frozen)
		})
	}
}

// What was frozen before and is frozen again stays so, whenever the agent dies.
func TestFrozenStaysFrozen(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := started(t, h, spec(t, "web", "wait"))
	require.NoError(t, box.Freeze(deadline(t)))
	require.NoError(t, box.Freeze(deadline(t)))
	require.NoError(t, h.Close())
	h = openWith(t, cfg)
	assert.Equal(t, "web: adopted: it is whole", h.Recovered()[0].String())
	assert.True(t, must(h.Check(deadline(t), "web")).Frozen)
}

// An agent that dies while it kills leaves no half of the processes, none of them
// frozen, and no group that may not fork.
func TestKillCutOffIsFinished(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := started(t, h, spec(t, "web", "wait"))
	before := must(box.Limits())
	require.NoError(t, box.Kill(deadline(t)))
	_, err := box.Wait(deadline(t))
	require.NoError(t, err)
	require.NoError(t, h.Close())
	text := string(must(os.ReadFile(filepath.Join(cfg.Root, "sandboxes", "web.state"))))
	require.Contains(t, text, `"act":"done"`)
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		if strings.Contains(line, `"act":"done"`) {
			forgetLast(t, cfg, "web", len(lines)-i)
		}
	}
	// What the kill would have left of the group.
	cmd := testutil.Child(t, "wait")
	in := must(cmd.StdinPipe())
	defer in.Close()
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	for _, dir := range treesOf(t, cfg, "web") {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0))
		for file, value := range map[string]string{"pids.max": "0", "cgroup.freeze": "1"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(value), 0))
			}
		}
	}

	h = openWith(t, cfg)
	assert.Contains(t, h.Recovered()[0].String(), "a kill that was cut off was finished")
	st := must(h.Check(deadline(t), "web"))
	assert.Equal(t, 0, st.PIDs)
	assert.False(t, st.Frozen)
	after := must(must(h.Sandbox(deadline(t), "web")).Limits())
	assert.Equal(t, before.PIDs, after.PIDs)
}

// An agent that dies while it gives a container its limits back, to let go of it,
// still has it, with all the limits that it had set.
func TestReleaseCutOffIsTakenBack(t *testing.T) {
	c := foreign(t)
	pid := c.start(t).Process.Pid
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := adopt(t, h, "db", isolation.PID(pid))
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}, CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)}})
	require.NoError(t, err)
	before := must(box.Limits())
	record := filepath.Join(cfg.Root, "sandboxes", "db.state")
	held := must(os.Open(record)) // it will be removed
	defer held.Close()
	require.NoError(t, box.Release(deadline(t), isolation.RestoreLimits))
	require.NotEqual(t, before.PIDs, must(c.Resources()).PIDs)
	require.NoError(t, h.Close())
	require.NoError(t, os.WriteFile(record, must(io.ReadAll(held)), 0o600))

	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 1)
	assert.Contains(t, h.Recovered()[0].String(), "adopted: it is whole, and an update that was cut off was taken back")
	after := must(must(h.Sandbox(deadline(t), "db")).Limits())
	assert.Equal(t, before.PIDs, after.PIDs)
	assert.Equal(t, before.CPU, after.CPU)
	require.NoError(t, must(h.Sandbox(deadline(t), "db")).Release(deadline(t), isolation.RestoreLimits))
	assert.NotEqual(t, before.PIDs, must(c.Resources()).PIDs)
	c.lives(t, pid)
}

// A record that grows for weeks is made short, and says what it said; the end of a
// process that another host waits for is in it all the same.
func TestRecordIsShortened(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for _, shared := range []bool{false, true} {
		cfg := config(t)
		cfg.Shared = shared
		h := must(isolation.Open(deadline(t), cfg))
		s := spec(t, "web", "wait")
		s.Labels = map[string]string{"app": "web"}
		box := create(t, h, s)
		require.NoError(t, box.Start(deadline(t)))
		path := filepath.Join(cfg.Root, "sandboxes", "web.state")
		claim := func(h *isolation.Host, n uint64) {
			_, err := must(h.Sandbox(deadline(t), "web")).Claim(deadline(t), isolation.Claim{
				Owner: "burst", Lease: time.Hour, Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(100 + n%2)}},
			})
			require.NoError(t, err)
		}
		for n := range uint64(100) {
			claim(h, n)
			require.Less(t, must(os.Stat(path)).Size(), int64(80<<10))
		}
		require.NoFileExists(t, path+".new")
		if shared {
			other := must(isolation.Open(deadline(t), cfg))
			for n := range uint64(80) {
				claim(other, n)
			}
			require.NoError(t, other.Close())
		}
		require.NoError(t, box.Signal(deadline(t), syscall.SIGKILL))
		_, err := box.Wait(deadline(t))
		require.NoError(t, err)
		require.NoError(t, h.Close())
		h = openWith(t, cfg)
		box = must(h.Sandbox(deadline(t), "web"))
		st := must(box.Check(deadline(t)))
		assert.Equal(t, s.Labels, st.Labels)
		assert.Len(t, st.Claims, 1)
		require.NotNil(t, st.Exit)
		assert.Equal(t, int(syscall.SIGKILL), st.Exit.Signal)
		assert.Empty(t, st.Drift)
	}
}
