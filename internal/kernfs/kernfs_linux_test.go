// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// names that must never be resolved.
var badNames = []string{"", ".", "..", "/", "/a", "a/", "a//b", "a/..", "../a", "a/../b", "./a", "a/.", "a\x00b", "\x00"}

func hold(tb testing.TB, path string) *Dir {
	tb.Helper()
	d, err := OpenDir(path)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, d.Close()) })
	return d
}

func id(tb testing.TB, d *Dir) ID {
	tb.Helper()
	id, err := d.ID()
	require.NoError(tb, err)
	return id
}

func TestNames(t *testing.T) {
	testutil.CheckLeaks(t)
	d := hold(t, t.TempDir())
	for _, name := range badNames {
		_, err := d.Open(name, os.O_RDONLY)
		require.ErrorIs(t, err, unix.EINVAL, "%q", name)
		_, err = d.OpenDir(name)
		require.ErrorIs(t, err, unix.EINVAL, "%q", name)
		_, err = d.Has(name)
		require.ErrorIs(t, err, unix.EINVAL, "%q", name)
		_, err = d.ReadFile(name, nil)
		require.ErrorIs(t, err, unix.EINVAL, "%q", name)
		require.ErrorIs(t, d.WriteFile(name, "x"), unix.EINVAL, "%q", name)
		require.ErrorIs(t, d.Mkdir(name, 0o755), unix.EINVAL, "%q", name)
		require.ErrorIs(t, d.Rmdir(name, d), unix.EINVAL, "%q", name)
	}
}

// A name that is accepted stays below its directory and says so in one way.
func FuzzName(f *testing.F) {
	for _, n := range append(badNames, "a", "cpu.max", "a/b", "...", "a b", "\xff", "é") {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		require.True(t, filepath.IsLocal(name))
		require.Equal(t, name, path.Clean(name))
		require.NotContains(t, strings.Split(name, "/"), "..")
		require.NotContains(t, name, "\x00")
		require.Equal(t, "/top/"+name, (&Dir{path: "/top"}).Join(name))
	})
}

// Links lead nowhere, neither as the last element nor on the way.
func TestLinks(t *testing.T) {
	testutil.CheckLeaks(t)
	dir, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(outside+"/secret", []byte("x"), 0o600))
	require.NoError(t, os.Symlink(outside, dir+"/out"))
	require.NoError(t, os.Symlink(outside+"/secret", dir+"/file"))
	d := hold(t, dir)
	_, err := d.ReadFile("file", nil)
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = d.ReadFile("out/secret", nil)
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = d.OpenDir("out")
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = d.Has("out/secret")
	require.ErrorIs(t, err, unix.ELOOP)
	there, err := d.Has("out")
	require.NoError(t, err)
	assert.True(t, there, "the link itself")
}

func TestMkdirRmdir(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	d := hold(t, dir)
	require.NoError(t, d.Mkdir("a", 0o755))
	require.NoError(t, d.Mkdir("a/b", 0o755))
	require.ErrorIs(t, d.Mkdir("a/b", 0o755), fs.ErrExist)
	require.ErrorIs(t, d.Mkdir("x/b", 0o755), fs.ErrNotExist)
	b, err := d.OpenDir("a/b")
	require.NoError(t, err)
	assert.Equal(t, dir+"/a/b", b.Path())
	n, err := d.Subdirs()
	require.NoError(t, err)
	names, err := d.Dirs()
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
	assert.Len(t, names, n)

	gone, err := b.Gone()
	require.NoError(t, err)
	assert.False(t, gone)
	require.NoError(t, d.Rmdir("a/b", b))
	gone, err = b.Gone()
	require.NoError(t, err)
	assert.True(t, gone)
	require.ErrorIs(t, d.Rmdir("a/b", b), fs.ErrNotExist)
	require.NoError(t, d.Mkdir("a/b", 0o755))
	require.ErrorIs(t, d.Rmdir("a/b", b), fs.ErrNotExist, "the name, but another directory")
	assert.DirExists(t, dir+"/a/b")
	_, err = b.Dirs()
	assert.True(t, IsGone(err), "a held directory is not the new one")
	again := hold(t, dir+"/a/b")
	assert.NotEqual(t, id(t, again), id(t, b))
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
}

func TestReadWrite(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	d := hold(t, dir)
	long := strings.Repeat("0123456789", 5000)
	require.NoError(t, os.WriteFile(dir+"/f", []byte(long), 0o600))
	for _, room := range []int{0, 1, len(long) - 1, len(long), len(long) + 1, 2 * len(long)} {
		b, err := d.ReadFile("f", make([]byte, 0, room))
		require.NoError(t, err)
		require.Equal(t, long, string(b), "into %d bytes", room)
	}
	f, err := d.Open("f", os.O_RDWR)
	require.NoError(t, err)
	buf := make([]byte, 10)
	n, err := f.ReadAt(buf)
	require.NoError(t, err)
	assert.Equal(t, long[:10], string(buf[:n]))
	require.NoError(t, f.Write("abc"))
	n, err = f.ReadAt(buf)
	require.NoError(t, err)
	assert.Equal(t, "abc3456789", string(buf[:n]), "reads are from the start, whatever was written")
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = f.ReadAt(buf); _ = f.Write("x") }))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		var onStack [16]byte
		_, _ = f.ReadAt(onStack[:])
	}), "the reader's buffer stays where it is")

	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	assert.Equal(t, -1, f.FD())
	_, err = f.ReadAt(buf)
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, f.Write("x"), os.ErrClosed)
	require.ErrorIs(t, f.Wait(t.Context()), os.ErrClosed)

	_, err = d.ReadFile("absent", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	var fe *FileError
	require.ErrorAs(t, d.WriteFile("absent", "value"), &fe)
	assert.Equal(t, FileError{Op: "write", Path: dir + "/absent", Data: "value", Err: unix.ENOENT}, *fe)
	assert.NoFileExists(t, dir+"/absent", "nothing is made by writing")
}

func TestClosedDir(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	assert.Equal(t, -1, d.FD())
	_, err = d.OpenDir("a")
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Has("a")
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Dirs()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Subdirs()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Cgroup()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Xattrs("user.")
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.ID()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = d.Gone()
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, d.Mkdir("a", 0o755), os.ErrClosed)
	require.ErrorIs(t, d.Rmdir("a", d), os.ErrClosed)
	require.ErrorIs(t, d.WriteFile("a", ""), os.ErrClosed)
	require.NoError(t, (*Dir)(nil).Close())
	require.NoError(t, (*File)(nil).Close())
}

// A descriptor that is closed under many readers is never another file's.
func TestCloseUnderReaders(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/a", []byte("a"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/b", []byte("b"), 0o600))
	d := hold(t, dir)
	for range 200 {
		a, err := d.Open("a", os.O_RDONLY)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var buf [4]byte
				for {
					n, err := a.ReadAt(buf[:])
					if err != nil {
						assert.ErrorIs(t, err, os.ErrClosed)
						return
					}
					assert.Equal(t, "a", string(buf[:n]))
				}
			})
		}
		wg.Go(func() { assert.NoError(t, a.Close()) })
		b, err := d.Open("b", os.O_RDONLY)
		require.NoError(t, err)
		wg.Wait()
		require.NoError(t, b.Close())
	}
}

// Files that are lists come in pieces of a page.
func TestReadList(t *testing.T) {
	d := hold(t, "/proc/self")
	whole, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	if len(whole) < 3*os.Getpagesize() {
		t.Fatalf("smaps has %d bytes, too few for this test", len(whole))
	}
	b, err := d.ReadFile("smaps", make([]byte, 0, 4*len(whole)))
	require.NoError(t, err)
	assert.Greater(t, len(b), len(whole)/2)
	assert.Contains(t, string(b[len(b)-300:]), "VmFlags", "the last record is there")
}

func TestCgroupDir(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		top := hold(t, m.Path)
		version, err := top.Cgroup()
		require.NoError(t, err)
		assert.Equal(t, m.V2, version == 2)
		if m.V2 {
			testCgroup2(t, top)
		}
	}
	version, err := hold(t, "/proc").Cgroup()
	require.NoError(t, err)
	assert.Zero(t, version)
}

func testCgroup2(t *testing.T, top *Dir) {
	name := testutil.CgroupName(t)
	require.NoError(t, top.Mkdir(name, 0o755))
	g, err := top.OpenDir(name)
	require.NoError(t, err)
	defer g.Close()
	n, err := g.Subdirs()
	require.NoError(t, err)
	assert.Zero(t, n)
	require.NoError(t, g.Mkdir("a", 0o755))
	n, err = g.Subdirs()
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	a, err := g.OpenDir("a")
	require.NoError(t, err)
	defer a.Close()

	require.NoError(t, g.SetXattr("trusted.test.key", "value"))
	require.NoError(t, g.SetXattr("trusted.test.long", strings.Repeat("x", 2000)))
	all, err := g.Xattrs("trusted.test.")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"key": "value", "long": strings.Repeat("x", 2000)}, all)
	require.NoError(t, g.RemoveXattr("trusted.test.key"))
	require.ErrorIs(t, g.RemoveXattr("trusted.test.key"), unix.ENODATA)

	events, err := g.Open("cgroup.events", os.O_RDONLY)
	require.NoError(t, err)
	b, err := events.Read(nil)
	require.NoError(t, err)
	assert.Contains(t, string(b), "populated 0\n")
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	require.ErrorIs(t, events.Wait(ctx), context.DeadlineExceeded)
	child := testutil.Child(t, "wait")
	require.NoError(t, child.Start())
	require.NoError(t, a.WriteFile("cgroup.procs", strconv.Itoa(child.Process.Pid)))
	require.NoError(t, events.Wait(t.Context()), "it has changed since it was read")
	b, err = events.Read(b)
	require.NoError(t, err)
	assert.Contains(t, string(b), "populated 1\n")
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	require.NoError(t, events.Wait(t.Context()))

	require.ErrorIs(t, top.Rmdir(name, g), unix.EBUSY)
	require.NoError(t, g.Rmdir("a", a))
	require.NoError(t, top.Rmdir(name, g))
	require.NoError(t, events.Wait(t.Context()), "a removed file announces it")
	_, err = events.Read(b)
	require.ErrorIs(t, err, unix.ENODEV)
	assert.True(t, IsGone(err))
	_, err = g.ReadFile("cgroup.procs", nil)
	assert.True(t, IsGone(err))
	require.NoError(t, events.Close())

	require.NoError(t, top.Mkdir(name, 0o755))
	_, err = g.ReadFile("cgroup.procs", nil)
	assert.True(t, IsGone(err), "a new directory of the same name is another one")
	again, err := top.OpenDir(name)
	require.NoError(t, err)
	defer again.Close()
	assert.NotEqual(t, id(t, g), id(t, again))
	require.ErrorIs(t, top.Rmdir(name, g), fs.ErrNotExist)
	require.NoError(t, top.Rmdir(name, again))
}

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{"wait": func([]string) int {
		time.Sleep(time.Hour) // an empty select would end the program
		return 0
	}})
}
