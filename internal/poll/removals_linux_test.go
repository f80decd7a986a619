// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func removals(t *testing.T) *Removals {
	r, err := NewRemovals()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	return r
}

// held makes a directory and opens it; the caller closes it.
func held(t *testing.T, path string) int {
	require.NoError(t, os.Mkdir(path, 0o755))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	return fd
}

func TestRemovals(t *testing.T) {
	testutil.CheckLeaks(t)
	r, top := removals(t), t.TempDir()
	counts := map[string]int{}
	add := func(name string) *Removal {
		fd := held(t, filepath.Join(top, name))
		t.Cleanup(func() { assert.NoError(t, unix.Close(fd)) })
		m, err := r.Add(fd, filepath.Base(name), func() { counts[name]++ })
		require.NoError(t, err)
		return m
	}
	a, b, c := add("a"), add("b"), add("c")
	long := strings.Repeat("x", 255)
	add(long)
	add("c/child")
	r.Read()
	assert.Empty(t, counts)

	for _, name := range []string{"a", "b", "c/child"} {
		require.NoError(t, os.Remove(filepath.Join(top, name)))
	}
	require.NoError(t, os.Mkdir(filepath.Join(top, "a"), 0o755))
	r.Remove(b)
	r.Remove(b)
	r.Read()
	assert.Equal(t, map[string]int{"a": 1, "c/child": 1}, counts)
	r.Remove(a)
	r.Remove(c)
	r.Remove(nil)
	require.NoError(t, os.Remove(filepath.Join(top, "a")))
	require.NoError(t, os.Remove(filepath.Join(top, "c")))
	require.NoError(t, os.Remove(filepath.Join(top, long)))
	r.Read()
	assert.Equal(t, 1, counts[long])
	assert.Equal(t, 1, counts["a"])
	assert.Zero(t, counts["c"])
}

// Two may watch the same directory, also by different descriptors.
func TestRemovalsShare(t *testing.T) {
	r, top := removals(t), t.TempDir()
	fd, calls := held(t, filepath.Join(top, "a")), 0
	defer unix.Close(fd)
	one, err := r.Add(fd, "a", func() { calls++ })
	require.NoError(t, err)
	_, err = r.Add(fd, "a", func() { calls += 10 })
	require.NoError(t, err)
	r.Remove(one)
	require.NoError(t, os.Remove(filepath.Join(top, "a")))
	r.Read()
	assert.Equal(t, 10, calls)
}

func TestRemovalsForgetParents(t *testing.T) {
	r, top := removals(t), t.TempDir()
	for range 3 {
		fd := held(t, filepath.Join(top, "a"))
		m, err := r.Add(fd, "a", func() {})
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		r.Remove(m)
		require.NoError(t, os.Remove(filepath.Join(top, "a")))
		r.Read()
		assert.Empty(t, r.parents)
	}
	// Events that were lost concern everybody, and so does a parent's end.
	calls := 0
	fd := held(t, filepath.Join(top, "b"))
	_, err := r.Add(fd, "b", func() { calls++ })
	require.NoError(t, err)
	overflow := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(overflow[4:], unix.IN_Q_OVERFLOW)
	var fns []func()
	eachInotify(overflow, func(wd int32, mask uint32, name string) { fns = r.concerned(wd, mask, name, fns) })
	assert.Len(t, fns, 1)
	eachInotify(overflow[:10], func(int32, uint32, string) { assert.Fail(t, "a cut event is none") })
	require.NoError(t, unix.Close(fd)) // which would keep the parent in memory
	require.NoError(t, os.RemoveAll(top))
	r.Read()
	assert.GreaterOrEqual(t, calls, 1)
	assert.Empty(t, r.parents)
}

func TestRemovalsBad(t *testing.T) {
	r := removals(t)
	_, err := r.Add(-1, "a", func() {})
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.Empty(t, r.parents)
	require.NoError(t, r.Close())
	_, err = r.Add(0, "a", func() {})
	require.Error(t, err)
	r.Read()
}

// The kernel wakes nobody who polls the files of a cgroup when it is removed.
// This does.
func TestRemovalsOfCgroups(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	p, r := open(t, nil), removals(t)
	_, err = p.Add(r.FD(), In, func(Events) { r.Read() })
	require.NoError(t, err)
	end := loop(p)
	for _, m := range mounts {
		path := filepath.Join(m.Path, testutil.CgroupName(t))
		gone := make(chan struct{}, 1)
		fd := held(t, path)
		t.Cleanup(func() { assert.NoError(t, unix.Close(fd)) })
		_, err := r.Add(fd, filepath.Base(path), func() { gone <- struct{}{} })
		require.NoError(t, err)
		require.NoError(t, unix.Rmdir(path), "%s", path)
		receive(t, gone)
	}
	require.NoError(t, p.Close())
	require.ErrorIs(t, receive(t, end), os.ErrClosed)
}
