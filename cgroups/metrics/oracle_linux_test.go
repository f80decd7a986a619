// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"bufio"
	"context"
	"os"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/metrics"
	"github.com/caisson-run/caisson/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{"work": work})
}

// work takes memory and CPU time when told to, and then does nothing until its
// standard input ends.
func work([]string) int {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadByte(); err != nil {
		return 1
	}
	b := make([]byte, 8<<20)
	for i := range b {
		b[i] = byte(i)
	}
	if _, err := os.Stdout.Write(b[:1]); err != nil {
		return 1
	}
	_, _ = in.ReadByte()
	return int(b[0])
}

// group is a group with an idle process that has worked, and its stats.
func group(t *testing.T) (*cgroups.Root, *cgroups.Cgroup) {
	t.Helper()
	r, err := cgroups.Open("")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	c, err := r.Create(testutil.CgroupName(t), 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, c.Kill(context.Background()))
		assert.NoError(t, c.Remove(context.Background()))
		assert.NoError(t, c.Close())
	})
	w := testutil.Child(t, "work")
	in, err := w.StdinPipe()
	require.NoError(t, err)
	out, err := w.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(func() {
		assert.NoError(t, in.Close())
		assert.NoError(t, w.Wait())
	})
	require.NoError(t, c.Add(t.Context(), w.Process.Pid))
	_, err = in.Write([]byte("g"))
	require.NoError(t, err)
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	return r, c
}

// stat are our figures of the group.
func stat(t *testing.T, c *cgroups.Cgroup) *stats.Metrics {
	t.Helper()
	var s cgroups.Stats
	require.NoError(t, c.Stat(&s))
	return metrics.FromStats(&s)
}

// between holds for a counter that we read before and after somebody else.
func between(t *testing.T, before, n, after uint64, what string) {
	t.Helper()
	assert.LessOrEqual(t, before, n, what)
	assert.LessOrEqual(t, n, after, what)
}

// near is for what moves a little even while nothing happens: the kernel keeps
// charges and statistics per CPU and folds them in now and then.
func near(t *testing.T, want, got uint64, slack float64, what string) {
	t.Helper()
	assert.InDelta(t, float64(want), float64(got), slack, what)
}

// containerd's own reading of the same group comes to the same figures.
func TestOracleUnified(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("memory"), testutil.Cgroup2("cpu"), testutil.Cgroup2("io"), testutil.Cgroup2("pids"))
	r, c := group(t)
	mount, ok := r.Unified()
	require.True(t, ok)
	manager, err := cgroup2.Load("/"+c.Path(), cgroup2.WithMountpoint(mount))
	require.NoError(t, err)
	before := stat(t, c)
	want, err := manager.Stat()
	require.NoError(t, err)
	got := stat(t, c)

	between(t, before.CPU.UsageUsec, want.CPU.UsageUsec, got.CPU.UsageUsec, "cpu usage")
	between(t, before.CPU.UserUsec, want.CPU.UserUsec, got.CPU.UserUsec, "cpu user")
	between(t, before.CPU.SystemUsec, want.CPU.SystemUsec, got.CPU.SystemUsec, "cpu system")
	assert.Equal(t, want.CPU.NrPeriods, got.CPU.NrPeriods)
	assert.Equal(t, want.CPU.PSI != nil, got.CPU.PSI != nil)

	w, g := want.Memory, got.Memory
	for what, p := range map[string][2]uint64{
		"usage": {w.Usage, g.Usage}, "peak": {w.MaxUsage, g.MaxUsage}, "anon": {w.Anon, g.Anon}, "file": {w.File, g.File},
		"slab": {w.Slab, g.Slab}, "stack": {w.KernelStack, g.KernelStack}, "shmem": {w.Shmem, g.Shmem},
		"active anon": {w.ActiveAnon, g.ActiveAnon}, "inactive anon": {w.InactiveAnon, g.InactiveAnon},
		"active file": {w.ActiveFile, g.ActiveFile}, "inactive file": {w.InactiveFile, g.InactiveFile},
		"thp": {w.AnonThp, g.AnonThp}, "swap": {w.SwapUsage, g.SwapUsage},
	} {
		near(t, p[0], p[1], 1<<20, what)
	}
	between(t, before.Memory.Pgfault, w.Pgfault, g.Pgfault, "pgfault")
	assert.Equal(t, w.UsageLimit, g.UsageLimit)
	assert.Equal(t, w.SwapLimit, g.SwapLimit)
	between(t, before.Memory.Pgmajfault, w.Pgmajfault, g.Pgmajfault, "pgmajfault")
	between(t, before.Memory.Pgscan, w.Pgscan, g.Pgscan, "pgscan")
	between(t, before.Memory.ThpFaultAlloc, w.ThpFaultAlloc, g.ThpFaultAlloc, "thp_fault_alloc")
	assert.GreaterOrEqual(t, g.Anon, uint64(8<<20))
	assert.Equal(t, want.MemoryEvents.String(), got.MemoryEvents.String())
	assert.Equal(t, want.Pids.Limit, got.Pids.Limit)
	near(t, want.Pids.Current, got.Pids.Current, 4, "pids")
	assert.Equal(t, len(want.Io.Usage), len(got.Io.Usage))
	for _, h := range got.Hugetlb { // none if the group is not under hugetlb
		assert.Contains(t, texts(want.Hugetlb), h.String())
	}
}

func texts[T interface{ String() string }](list []T) (out []string) {
	for _, h := range list {
		out = append(out, h.String())
	}
	return out
}

// On v1 the words differ but not the figures.
func TestOracleLegacy(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("memory"), testutil.Cgroup1("cpuacct"), testutil.Cgroup1("pids"))
	_, c := group(t)
	manager, err := cgroup1.Load(cgroup1.StaticPath("/" + c.Path()))
	require.NoError(t, err)
	before := stat(t, c)
	want, err := manager.Stat(cgroup1.IgnoreNotExist)
	require.NoError(t, err)
	got := stat(t, c)

	between(t, before.CPU.UsageUsec, want.CPU.Usage.Total/1000, got.CPU.UsageUsec, "cpu usage")
	between(t, before.CPU.UserUsec, want.CPU.Usage.User/1000, got.CPU.UserUsec, "cpu user")
	between(t, before.CPU.SystemUsec, want.CPU.Usage.Kernel/1000, got.CPU.SystemUsec, "cpu system")
	assert.Equal(t, want.CPU.Throttling.ThrottledPeriods, got.CPU.NrThrottled)

	w, g := want.Memory, got.Memory
	for what, p := range map[string][2]uint64{
		"usage": {w.Usage.Usage, g.Usage}, "peak": {w.Usage.Max, g.MaxUsage},
		"rss": {w.TotalRSS, g.Anon}, "cache": {w.TotalCache, g.File}, "mapped": {w.TotalMappedFile, g.FileMapped},
		"active anon": {w.TotalActiveAnon, g.ActiveAnon}, "inactive anon": {w.TotalInactiveAnon, g.InactiveAnon},
		"rss huge": {w.TotalRSSHuge, g.AnonThp},
	} {
		near(t, p[0], p[1], 1<<20, what)
	}
	between(t, before.Memory.Pgfault, w.TotalPgFault, g.Pgfault, "pgfault")
	between(t, before.Memory.Pgmajfault, w.TotalPgMajFault, g.Pgmajfault, "pgmajfault")
	assert.GreaterOrEqual(t, g.Anon, uint64(8<<20))
	near(t, want.Pids.Current, got.Pids.Current, 4, "pids") // threads of the Go runtime come
	if want.MemoryOomControl != nil {
		assert.Equal(t, want.MemoryOomControl.OomKill, got.MemoryEvents.OomKill)
	}
}
