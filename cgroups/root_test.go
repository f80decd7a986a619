// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const systemdHybrid = `31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 master:1 propagate_from:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
36 31 0:33 /docker/a\040b /sys/fs/cgroup/mem\134ory rw - cgroup none rw,memory
37 31 0:34 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls,net_prio
`

func TestParseMounts(t *testing.T) {
	mounts, err := parseMounts([]byte(systemdHybrid))
	require.NoError(t, err)
	assert.Equal(t, []mount{
		{minor: 29, root: "/", point: "/sys/fs/cgroup/unified", v2: true},
		{minor: 30, root: "/", point: "/sys/fs/cgroup/systemd"},
		{minor: 31, root: "/", point: "/sys/fs/cgroup/cpu,cpuacct", controllers: ControllersOf(ControllerCPU, ControllerCPUAcct)},
		{minor: 32, root: "/", point: "/sys/fs/cgroup/blkio", controllers: ControllersOf(ControllerIO)},
		{minor: 33, root: "/docker/a b", point: `/sys/fs/cgroup/mem\ory`, controllers: ControllersOf(ControllerMemory)},
		{minor: 34, root: "/", point: "/sys/fs/cgroup/net_cls"},
	}, mounts)
	for _, bad := range []string{"x", "1 2 0:3 / - cgroup cgroup rw", "1 2 3 / /p rw - cgroup cgroup rw,cpu", "1 2 0:x / /p rw - cgroup2 c rw"} {
		_, err := parseMounts([]byte(bad))
		assert.Error(t, err, bad)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte(systemdHybrid))
	f.Fuzz(func(t *testing.T, b []byte) {
		mounts, err := parseMounts(b)
		if err != nil {
			require.Nil(t, mounts)
		}
		require.LessOrEqual(t, len(mounts), strings.Count(string(b), " - "))
		for _, m := range mounts {
			require.False(t, m.v2 && m.controllers != 0)
		}
	})
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		dir, p, rest string
		ok           bool
	}{
		{"/", "/", "", true},
		{"/", "/a/b", "a/b", true},
		{"/a", "/a", "", true},
		{"/a", "/a/b", "b", true},
		{"/a", "/ab", "", false},
		{"/a/b", "/a", "", false},
	} {
		rest, ok := within(tt.dir, tt.p)
		assert.Equal(t, tt.ok, ok, "%s in %s", tt.p, tt.dir)
		if ok {
			assert.Equal(t, tt.rest, rest, "%s in %s", tt.p, tt.dir)
		}
	}
}

var goodPaths = []string{"a", "agent/web-1", "a b", "é", ".hidden", "...", "memory", "cpu", "tasks.1", "system.slice/x\\x2dy.scope", strings.Repeat("x", 255)}

var badPaths = []string{
	"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\x00b", "a\nb", "a\x7f", "\xff", "a\u200b", "a\u2028b",
	strings.Repeat("x", 256), strings.Repeat("x/", 3000) + "x",
}

var kernelPaths = []string{"cgroup.procs", "memory.max", "cpu.x", "a/io.y", "blkio.a/b", "tasks", "a/notify_on_release", "a (deleted)"}

func TestCheckPath(t *testing.T) {
	for _, p := range goodPaths {
		assert.NoError(t, checkPath(p), "%q", p)
		assert.NoError(t, checkNewPath(p), "%q", p)
	}
	for _, p := range badPaths {
		require.ErrorIs(t, checkPath(p), ErrInvalid, "%q", p)
		require.ErrorIs(t, checkNewPath(p), ErrInvalid, "%q", p)
		assert.Less(t, len(checkPath(p).Error()), 1200, "%q", p)
	}
	for _, p := range kernelPaths {
		assert.NoError(t, checkPath(p), "%q: it may exist", p)
		require.ErrorIs(t, checkNewPath(p), ErrInvalid, "%q", p)
	}
}

// What is accepted stays below the top, in one spelling, and survives a line of
// /proc/PID/cgroup.
func FuzzCheckPath(f *testing.F) {
	for _, list := range [][]string{goodPaths, badPaths, kernelPaths} {
		for _, p := range list {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkNewPath(p) != nil {
			return
		}
		require.NoError(t, checkPath(p))
		require.True(t, filepath.IsLocal(p))
		require.Equal(t, p, path.Clean(p))
		all, err := parseMemberships([]byte("0::/" + p + "\n"))
		require.NoError(t, err)
		require.Equal(t, []membership{{v2: true, path: "/" + p}}, all)
	})
}

func TestRootNames(t *testing.T) {
	h1 := &hierarchy{controllers: ControllersOf(ControllerCPU)}
	h2 := &hierarchy{v2: true, controllers: ControllersOf(ControllerHugeTLB), detached: true}
	r := &Root{mode: Legacy, hierarchies: []*hierarchy{h1, h2}, unified: h2}
	r.where[ControllerCPU], r.where[ControllerHugeTLB] = h1, h2
	assert.Equal(t, "cpu,hugetlb", r.Controllers().String())
	assert.True(t, r.Detached())
	p, ok := r.Unified()
	assert.True(t, ok)
	assert.Empty(t, p)
	p, version, ok := r.Where(ControllerHugeTLB)
	assert.Equal(t, []any{"", 2, true}, []any{p, version, ok})
	for _, ctl := range []Controller{ControllerMemory, numControllers, 255} {
		_, _, ok = r.Where(ctl)
		assert.False(t, ok)
	}

	for want, target := range map[Controllers]error{
		ControllersOf(ControllerCPU, ControllerHugeTLB):                        nil,
		ControllersOf(ControllerDevices, ControllerFreezer, ControllerCPUAcct): nil,
		ControllersOf(ControllerMemory):                                        ErrNotSupported,
		1 << numControllers:                                                    ErrInvalid,
	} {
		require.ErrorIs(t, r.has(want), target, "%s", want)
	}
	r.unified = nil
	require.ErrorIs(t, r.has(ControllersOf(ControllerFreezer)), ErrNotSupported)
}
