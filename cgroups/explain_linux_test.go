// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// explained explains the group agent/web of a tree of plain files that has every
// controller. files are by their path in it.
func explained(t *testing.T, v2 bool, files map[string]string) Explanation {
	t.Helper()
	top := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(top, "agent/web"), 0o755))
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(top, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(top, name), []byte(text+"\n"), 0o600))
	}
	dir, err := kernfs.OpenDir(top)
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	own, err := dir.OpenDir("agent/web")
	require.NoError(t, err)
	t.Cleanup(func() { own.Close() })
	h := &hierarchy{v2: v2, dir: dir, controllers: 1<<numControllers - 1}
	n := &node{in: h, dir: own, path: "agent/web"}
	c := &Cgroup{root: &Root{hierarchies: []*hierarchy{h}}, path: "agent/web", nodes: []*node{n}}
	for ctl := range numControllers {
		c.root.where[ctl], c.at[ctl] = h, n
	}
	e, err := c.Explain()
	require.NoError(t, err)
	for i := range e.Unseen {
		e.Unseen[i], err = filepath.Rel(top, e.Unseen[i])
		require.NoError(t, err)
	}
	return e
}

// TestExplain is RELIABILITY's silent cap: a group that is given more than its
// parent has.
func TestExplain(t *testing.T) {
	e := explained(t, true, map[string]string{
		"agent/memory.max":     "1048576",
		"agent/web/memory.max": "4194304",
		"agent/memory.high":    "max", "agent/web/memory.high": "max",
		"agent/cpu.max": "20000 100000", "agent/web/cpu.max": "33000 100000",
		"agent/cpu.weight": "100", "agent/web/cpu.weight": "300", "agent/db/cpu.weight": "100", "batch/cpu.weight": "300",
		"agent/pids.max": "max", "agent/web/pids.max": "1",
		"cpuset.cpus.effective":           "0-3",
		"agent/cpuset.cpus":               "0",
		"agent/cpuset.cpus.effective":     "0",
		"agent/web/cpuset.cpus":           "0-3",
		"agent/web/cpuset.cpus.effective": "0",
		"agent/io.max":                    "8:0 rbps=1000 wbps=max riops=max wiops=max",
		"agent/web/io.max":                "8:0 rbps=3000 wbps=max riops=7 wiops=max\n9:1 rbps=max wbps=5 riops=max wiops=max",
		"cgroup.events":                   "populated 1",
	})
	for knob, want := range map[string]struct {
		by     string
		excess uint64
		words  string
	}{
		"memory.max":       {"agent", 3145728, "1048576 bytes by group agent, "},
		"cpu.max":          {"agent", 130000, "0.2 CPUs by group agent, "},
		"pids.max":         {"agent/web", 0, "pids.max: 1 processes by group agent/web, "},
		"cpuset.cpus":      {"agent", 3, "cpuset.cpus: 1 CPUs by group agent, "},
		"io.max 8:0 rbps":  {"agent", 2000, "1000 bytes/s by group agent, "},
		"io.max 8:0 riops": {"agent/web", 0, "7 operations/s by group agent/web, "},
		"io.max 9:1 wbps":  {"agent/web", 0, "5 bytes/s by group agent/web, "},
		"io.max 8:0 wbps":  {"", 0, "io.max 8:0 wbps: no limit"},
		"memory.high":      {"", 0, "memory.high: no limit"},
	} {
		if knob == "cpuset.cpus" && runtime.NumCPU() == 1 {
			continue // the machine has no more
		}
		b, ok := e.Of(knob)
		require.True(t, ok, knob)
		assert.Equal(t, want.by, b.By.Group, "%s", b)
		assert.Equal(t, want.excess, b.Excess(), "%s", b)
		assert.Contains(t, b.String(), want.words)
	}
	b, _ := e.Of("cpu.max")
	assert.Contains(t, b.String(), "; 0.33 asked for, 0.13 too many")
	assert.Equal(t, []Share{{"agent/web", 300, 400}, {"agent", 100, 400}}, e.Shares)
	assert.Contains(t, e.String(), "cpu.weight: 18.8% of CPU time if everybody wants some")
	assert.Equal(t, []string{"."}, e.Unseen, "a tree whose top is a group like others")
	assert.Contains(t, e.String(), "is not visible from here")
	_, ok := e.Of("memory.swap.max")
	assert.False(t, ok, "no file, no limit")
}

func TestExplainV1(t *testing.T) {
	e := explained(t, false, map[string]string{
		"release_agent":               "",
		"memory.limit_in_bytes":       "9223372036854771712",
		"agent/memory.limit_in_bytes": "1048576", "agent/memory.memsw.limit_in_bytes": "2097152", "agent/memory.use_hierarchy": "1",
		"agent/web/memory.limit_in_bytes": "4194304", "agent/web/memory.memsw.limit_in_bytes": "4194304",
		"agent/cpu.cfs_quota_us": "-1", "agent/cpu.cfs_period_us": "100000",
		"agent/web/cpu.cfs_quota_us": "25000", "agent/web/cpu.cfs_period_us": "50000",
		"agent/blkio.throttle.read_bps_device": "8:0 5", "agent/web/blkio.throttle.read_bps_device": "8:0 9",
	})
	assert.Empty(t, e.Unseen)
	for knob, want := range map[string]struct {
		by    string
		limit Limit
	}{
		"memory.max":      {"agent", Bytes(1 << 20)},
		"memory+swap":     {"agent", Bytes(2 << 20)},
		"cpu.max":         {"agent/web", Count(500000)},
		"io.max 8:0 rbps": {"agent/web", Count(9)}, // v1 does not hold it to the parent's
	} {
		b, ok := e.Of(knob)
		require.True(t, ok, knob)
		assert.Equal(t, want.by, b.By.Group, "%s", b)
		assert.Equal(t, want.limit, b.Limit, "%s", b)
	}

	e = explained(t, false, map[string]string{
		"agent/memory.limit_in_bytes": "1048576", "agent/memory.use_hierarchy": "0", "agent/web/memory.limit_in_bytes": "4194304",
	})
	b, _ := e.Of("memory.max")
	assert.Equal(t, "agent/web", b.By.Group, "a parent that does not count its children: %s", b)
	assert.Equal(t, []string{"."}, e.Unseen)
}

// TestExplainKernel puts a group below one with less of everything (fault 35, silently
// capped).
func TestExplainKernel(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	parent := newGroup(t, root, 0)
	limits := func(n uint64) Resources {
		return Resources{
			CPU: CPU{Max: CPUs(0.1 * float64(n))}, Memory: Memory{Max: Bytes(n << 25), High: Bytes(n << 24)},
			PIDs: PIDs{Max: Count(10 * n)}, CPUSet: CPUSet{CPUs: SetOf(0)},
		}
	}
	if root.where[ControllerCPU] != nil && !root.where[ControllerCPU].v2 {
		// v1 refuses what v2 caps: a share of CPU above the parent's.
		limits = func(n uint64) Resources {
			return Resources{Memory: Memory{Max: Bytes(n << 25)}, PIDs: PIDs{Max: Count(10 * n)}, CPUSet: CPUSet{CPUs: SetOf(0)}}
		}
	}
	_, err := parent.Update(context.Background(), supported(t, parent, limits(1)))
	require.NoError(t, err)
	child := newGroupAt(t, root, parent.Path()+"/child", 0)
	_, err = child.Update(context.Background(), supported(t, child, limits(2)))
	require.NoError(t, err)
	e, err := child.Explain()
	require.NoError(t, err)
	t.Logf("%s", e)
	for knob, want := range map[string]uint64{"memory.max": 1 << 25, "memory.high": 1 << 24, "cpu.max": 100000, "pids.max": 10} {
		b, ok := e.Of(knob)
		if !ok || b.Asked.IsMax() {
			assert.False(t, knob == "pids.max" && root.where[ControllerPIDs] != nil, "%s: what was set is not seen", b)
			continue // this kernel has no such knob, or v1 would not have taken it
		}
		require.Equal(t, parent.Path(), b.By.Group, "%s", b)
		assert.Equal(t, Count(want), b.Limit, "%s", b)
		assert.Equal(t, want, b.Excess(), "%s", b)
	}
	if b, ok := e.Of("cpuset.cpus"); ok && runtime.NumCPU() > 1 {
		assert.Equal(t, parent.Path(), b.By.Group, "%s", b)
		assert.Equal(t, Count(1), b.Limit)
	}
	if s := e.Shares; root.where[ControllerCPU] != nil {
		require.Len(t, s, 2)
		assert.Equal(t, s[0].Weight, s[0].Sum, "an only child")
	}

	// What is not under a controller has the limits of who is above it.
	middle := newGroupAt(t, root, parent.Path()+"/middle", 0)
	bare, err := root.Create(middle.Path()+"/bare", ControllersOf(ControllerPIDs))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bare.Close()) })
	e, err = bare.Explain()
	require.NoError(t, err)
	t.Logf("%s", e)
	if h := root.where[ControllerMemory]; h != nil && h.v2 {
		b, ok := e.Of("memory.max")
		require.True(t, ok)
		assert.Equal(t, parent.Path(), b.By.Group, "%s", b)
		assert.True(t, b.Asked.IsZero())
	}
	if root.where[ControllerPIDs] != nil {
		b, ok := e.Of("pids.max")
		require.True(t, ok)
		assert.Equal(t, parent.Path(), b.By.Group, "%s", b)
		assert.True(t, b.Asked.IsMax())
	}
	require.NoError(t, bare.Remove(context.Background()))
	_, err = bare.Explain()
	require.ErrorIs(t, err, ErrGone)
}

// TestExplainSubtree: an agent that was given a part of a tree does not see what
// is above it, and says so.
func TestExplainSubtree(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	top, ok := root.Unified()
	require.True(t, ok)
	parent := newGroup(t, root, 0)
	part, err := Open(filepath.Join(top, parent.Path()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, part.Close()) })
	c := newGroupAt(t, part, "web", 0)
	e, err := c.Explain()
	require.NoError(t, err)
	if len(part.Controllers().List()) > 0 {
		assert.Equal(t, []string{filepath.Join(top, parent.Path())}, e.Unseen)
	}

	whole, err := parent.Explain()
	require.NoError(t, err)
	assert.NotContains(t, whole.Unseen, top, "the real top has nothing above it")
}
