// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The kernel's own tables are the judge.
func TestOpenRoot(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	testutil.CheckLeaks(t)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	mounts = slices.DeleteFunc(mounts, func(m testutil.CgroupMount) bool { return !strings.HasPrefix(m.Path, defaultMount) })
	if len(mounts) == 0 {
		testutil.Skip(t, "cgroups", "no hierarchy is mounted below %s", defaultMount)
	}
	r := openRoot(t)
	t.Logf("%s, %s, detached %t", r.Mode(), r.Controllers(), r.Detached())
	legacy, unified := false, false
	for _, m := range mounts {
		for _, name := range m.Controllers {
			ctl, known := parseController(name)
			if !known {
				continue
			}
			path, version, ok := r.Where(ctl)
			assert.True(t, ok, name)
			assert.Equal(t, m.Path, path, name)
			assert.Equal(t, m.V2, version == 2, name)
			legacy = legacy || !m.V2
		}
		if m.V2 {
			path, ok := r.Unified()
			assert.True(t, ok)
			assert.Equal(t, m.Path, path)
			unified = true
		}
	}
	switch {
	case !legacy:
		assert.Equal(t, Unified, r.Mode())
	case unified:
		assert.Equal(t, Hybrid, r.Mode())
	default:
		assert.Equal(t, Legacy, r.Mode())
		assert.Equal(t, os.Geteuid() == 0, r.Detached())
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close(), "twice")
}

// The trees are where the caller says, or the error says what is there (fault 39).
func TestOpenRootElsewhere(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(dir)
	require.ErrorIs(t, err, ErrNotSupported)
	assert.Contains(t, err.Error(), dir)
	usual, err := Open("")
	if err != nil {
		testutil.Skip(t, "cgroups", "%v", err)
	}
	defer usual.Close()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(defaultMount, link))
	r, err := Open(link)
	require.NoError(t, err)
	defer r.Close()
	assert.Equal(t, usual.Mode(), r.Mode())
	assert.Equal(t, usual.Controllers(), r.Controllers())
}

// A directory inside the unified tree can be the top (fault 39, nested).
func TestOpenSubtree(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	usual := openRoot(t)
	parent := newGroup(t, usual, 0)
	top := parent.unified()
	r, err := Open(top.dir.Path())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	assert.Equal(t, Unified, r.Mode())
	assert.Equal(t, "/"+parent.Path(), r.unified.root)
	path, ok := r.Unified()
	assert.True(t, ok)
	assert.Equal(t, top.dir.Path(), path)
	c := newGroupAt(t, r, "x", 0)
	assert.Equal(t, r.Controllers(), c.Controllers())
	same, err := usual.Open(parent.Path() + "/x")
	require.NoError(t, err)
	assert.Equal(t, c.ID(), same.ID())
	require.NoError(t, same.Close())
	s := spawn(t, c, "read x")
	assert.Equal(t, []int{s.Process.Pid}, procs(t, c))
}

// A tree that is mounted read-only is measured, and nothing is made or changed in it
// (fault 39).
func TestOpenReadOnly(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	usual := openRoot(t)
	c := newGroup(t, usual, 0)
	top, ok := usual.Unified()
	require.True(t, ok)
	dir := t.TempDir()
	require.NoError(t, syscall.Mount(top, dir, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	r, err := Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })

	_, err = r.Create(c.Path()+"-other", 0)
	require.ErrorIs(t, err, syscall.EROFS)
	var file *FileError
	require.ErrorAs(t, err, &file)
	assert.Equal(t, filepath.Join(dir, c.Path()+"-other"), file.Path)
	same, err := r.Open(c.Path())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, same.Close()) })
	var s Stats
	require.NoError(t, same.Stat(&s))
	require.ErrorIs(t, same.Freeze(t.Context()), syscall.EROFS)
	if want := supported(t, same, Resources{PIDs: PIDs{Max: Count(5)}}); !want.IsZero() {
		_, err = same.Update(t.Context(), want)
		require.ErrorIs(t, err, syscall.EROFS)
	}
}

// Where only v1 is mounted, a cgroup2 mount without a path serves. It is the
// same tree, so where cgroup2 is mounted too, the group can be seen there.
func TestDetached(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.LegacyTree)
	testutil.CheckLeaks(t)
	b, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " - cgroup2 ") && !strings.HasSuffix(line, " rw\n") {
			testutil.Skip(t, "cgroup2.options", "another mount would reset the options of this one: %s", line)
		}
	}
	mounts, err := parseMounts(b)
	require.NoError(t, err)
	mounts = slices.DeleteFunc(mounts, func(m mount) bool { return m.v2 })
	r := &Root{}
	require.NoError(t, r.find(defaultMount, mounts))
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	assert.Equal(t, Legacy, r.Mode())
	require.True(t, r.Detached(), "%v", r.noUnified)
	path, ok := r.Unified()
	assert.True(t, ok)
	assert.Empty(t, path)
	after, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.Equal(t, strings.Count(string(b), "cgroup2"), strings.Count(string(after), "cgroup2"), "it is mounted nowhere")

	c := newGroup(t, r, 0)
	s := spawn(t, c, "read x")
	require.NoError(t, c.Freeze(t.Context()))
	is, err := c.unified().event("frozen")
	require.NoError(t, err)
	assert.True(t, is)
	assert.True(t, strings.HasPrefix(c.unified().dir.Path(), "cgroup2:/caisson-test-"))
	pids, err := readPIDs(c.unified().dir, nil)
	require.NoError(t, err)
	assert.Equal(t, []int{s.Process.Pid}, pids)
	require.NoError(t, c.SetLabel("k", "v"))
	require.NoError(t, c.Kill(t.Context()))
}
