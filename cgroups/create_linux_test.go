// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openRoot opens this machine's root and closes it after the test.
func openRoot(tb testing.TB) *Root {
	tb.Helper()
	r, err := Open("")
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, r.Close()) })
	return r
}

// newGroup makes a group for the test and removes it afterwards.
func newGroup(tb testing.TB, r *Root, want Controllers) *Cgroup {
	tb.Helper()
	return newGroupAt(tb, r, testutil.CgroupName(tb), want)
}

func newGroupAt(tb testing.TB, r *Root, path string, want Controllers) *Cgroup {
	tb.Helper()
	c, err := r.Create(path, want)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(10*time.Second))
		defer cancel()
		assert.NoError(tb, c.Kill(ctx))
		assert.NoError(tb, c.Remove(ctx))
		assert.NoError(tb, c.Close())
	})
	return c
}

// dirs are the group's directories, by the names of its trees.
func dirs(c *Cgroup) (list []string) {
	for _, n := range c.places() {
		if !n.in.detached {
			list = append(list, filepath.Join(n.in.mountPoint(), c.path))
		}
	}
	return list
}

// hasGone checks that the group is in no tree any more.
func (c *Cgroup) hasGone(tb testing.TB) {
	tb.Helper()
	for _, n := range c.places() {
		require.True(tb, n.gone(), n.dir.Path())
	}
}

func TestCreateRemove(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for _, want := range []Controllers{0, ControllersOf(ControllerPIDs), ControllersOf(ControllerCPU, ControllerMemory, ControllerDevices), r.Controllers()} {
		if r.has(want) != nil {
			continue // memory may be built out of v1
		}
		name := testutil.CgroupName(t)
		c, err := r.Create(name, want)
		require.NoError(t, err)
		assert.Equal(t, name, c.Path())
		assert.Equal(t, r.Mode(), c.Mode())
		for _, ctl := range want.List() {
			if r.where[ctl] != nil {
				assert.True(t, c.Controllers().Has(ctl), "%s in %s", ctl, c.Controllers())
			}
		}
		for _, dir := range dirs(c) {
			assert.DirExists(t, dir)
		}
		for _, n := range c.places() {
			assert.True(t, n.in.v2 || n.in.controllers&want != 0 || want == 0, n.dir.Path())
		}
		id := c.ID()
		assert.NotZero(t, id.Ino)

		_, err = r.Create(name, want)
		require.ErrorIs(t, err, os.ErrExist)
		for _, dir := range dirs(c) {
			assert.DirExists(t, dir, "still there after somebody else's attempt")
		}
		require.NoError(t, c.Remove(t.Context()))
		require.NoError(t, c.Remove(t.Context()), "twice")
		c.hasGone(t)
		require.NoError(t, c.Close())
		require.NoError(t, c.Close(), "twice")
		require.ErrorIs(t, c.Remove(t.Context()), os.ErrClosed)
		_, err = r.Open(name)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

// The default is everything but v1's freezer where the unified tree can freeze.
func TestCreateDefault(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	want := r.Controllers()
	if r.unified != nil {
		want &^= ControllersOf(ControllerFreezer)
		require.NotNil(t, c.unified())
	}
	assert.Equal(t, want.String(), c.Controllers().String())
}

func TestCreateRefusals(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for _, p := range slices.Concat(badPaths, kernelPaths) {
		_, err := r.Create(p, 0)
		require.ErrorIs(t, err, ErrInvalid, "%q", p)
	}
	for _, p := range badPaths {
		_, err := r.Open(p)
		require.ErrorIs(t, err, ErrInvalid, "%q", p)
	}
	name := testutil.CgroupName(t)
	_, err := r.Create(name+"/child", 0)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = r.Create(name, 1<<15)
	require.ErrorIs(t, err, ErrInvalid)
	if absent := ^r.Controllers() & (1<<numControllers - 1) &^ ControllersOf(ControllerDevices, ControllerFreezer, ControllerCPUAcct); absent != 0 {
		_, err = r.Create(name, absent)
		require.ErrorIs(t, err, ErrNotSupported)
		assert.Contains(t, err.Error(), absent.first().String())
	}
	_, err = r.Open(name)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A name that is taken in the last tree undoes what was made in the others, and
// what took it stays (fault 42).
func TestCreateTakenInOneTree(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for _, h := range r.hierarchies {
		name := testutil.CgroupName(t)
		require.NoError(t, h.dir.Mkdir(name, 0o755))
		_, err := r.Create(name, r.Controllers())
		require.ErrorIs(t, err, os.ErrExist)
		var fe *FileError
		require.ErrorAs(t, err, &fe)
		assert.Equal(t, "mkdir", fe.Op)
		for _, other := range r.hierarchies {
			there, err := other.dir.Has(name)
			require.NoError(t, err)
			assert.Equal(t, other == h, there, other.dir.Path())
		}
		removeRaw(t, h, name)
	}
}

// removeRaw removes a directory that the test made behind the package's back.
func removeRaw(tb testing.TB, h *hierarchy, name string) {
	tb.Helper()
	dir, err := h.dir.OpenDir(name)
	require.NoError(tb, err)
	require.NoError(tb, h.dir.Rmdir(name, dir))
	require.NoError(tb, dir.Close())
}

// Of many that create one path, one wins, whatever controllers they want, and
// the others leave its group alone.
func TestCreateRace(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	wants := []Controllers{0}
	if r.unified != nil {
		wants = append(wants, ControllersOf(ControllerPIDs), ControllersOf(ControllerCPU))
	}
	rounds := 20
	if testutil.Emulated() {
		rounds = 3
	}
	for range rounds {
		name := testutil.CgroupName(t)
		won := make(chan *Cgroup, 4)
		var wg sync.WaitGroup
		for i := range cap(won) {
			wg.Go(func() {
				c, err := r.Create(name, wants[i%len(wants)])
				if err == nil {
					won <- c
				} else {
					assert.ErrorIs(t, err, os.ErrExist)
				}
			})
		}
		wg.Wait()
		require.Len(t, won, 1)
		c := <-won
		for _, n := range c.places() {
			assert.False(t, n.gone(), n.dir.Path())
		}
		require.NoError(t, c.Remove(t.Context()))
		require.NoError(t, c.Close())
		_, err := r.Open(name)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

func TestCreateNested(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	a := newGroup(t, r, 0)
	b := newGroupAt(t, r, a.Path()+"/b", 0)
	c := newGroupAt(t, r, b.Path()+"/c d", 0)
	assert.Equal(t, a.Controllers(), c.Controllers())
	assert.Equal(t, a.Path()+"/b/c d", c.Path())
	for ctl, file := range map[Controller]string{ControllerMemory: "memory.stat", ControllerPIDs: "pids.max"} {
		if n := c.node(ctl); n != nil {
			there, err := n.dir.Has(file)
			require.NoError(t, err)
			assert.True(t, there, file)
		}
	}
	o, err := r.Open(c.Path())
	require.NoError(t, err)
	assert.Equal(t, c.ID(), o.ID())
	assert.Equal(t, c.Controllers(), o.Controllers())
	require.NoError(t, o.Remove(t.Context()), "not owned: nothing happens")
	assert.False(t, o.main().gone())
	require.NoError(t, o.Close())
}

// v2Controller is one of the given controllers whose files are in the unified
// tree here.
func v2Controller(tb testing.TB, r *Root, among ...Controller) Controllers {
	tb.Helper()
	for _, ctl := range among {
		if r.where[ctl] != nil && r.where[ctl].v2 {
			return ControllersOf(ctl)
		}
	}
	testutil.Skip(tb, testutil.Cgroup2(among[0].String()), "the unified tree has none of %s here", ControllersOf(among...))
	return 0
}

// A group that has processes passes on no controllers, whether the kernel
// refuses by itself or would make the child useless (fault 41).
func TestCreateInternalProcess(t *testing.T) {
	testutil.Require(t, testutil.Root)
	for name, among := range map[string][]Controller{
		"domain":   {ControllerMemory, ControllerIO, ControllerHugeTLB},
		"threaded": {ControllerPIDs, ControllerCPU},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.CheckLeaks(t)
			r := openRoot(t)
			want := v2Controller(t, r, among...)
			parent := newGroup(t, r, want)
			s := spawn(t, parent, "read x")
			path := parent.Path() + "/child"
			_, err := r.Create(path, want)
			var internal *InternalProcessError
			require.ErrorAs(t, err, &internal)
			assert.Equal(t, want, internal.Controllers)
			assert.Contains(t, err.Error(), "move them to a child group first")
			require.ErrorIs(t, err, syscall.EBUSY)
			_, err = r.Open(path)
			require.ErrorIs(t, err, os.ErrNotExist)

			_ = s.Process.Kill()
			_ = s.Wait()
			c := newGroupAt(t, r, path, want)
			spawn(t, c, "read x")
		})
	}
}

func TestAddToInnerGroup(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	want := v2Controller(t, r, ControllerMemory, ControllerIO, ControllerHugeTLB)
	parent := newGroup(t, r, want)
	newGroupAt(t, r, parent.Path()+"/child", want)
	s := start(t, "read x")
	err := parent.Add(t.Context(), s.Process.Pid)
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.Contains(t, err.Error(), "child groups")
	assert.Empty(t, procs(t, parent))
}

// Below threads there are no limits of whole processes, and what was made on the way to
// that answer goes again (fault 41).
func TestCreateBelowThreads(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	want := v2Controller(t, r, ControllerMemory, ControllerIO, ControllerHugeTLB)
	parent := newGroup(t, r, ControllersOf(ControllerPIDs))
	threads := parent.Path() + "/threads"
	require.NoError(t, r.unified.dir.Mkdir(threads, 0o755))
	t.Cleanup(func() { removeRaw(t, r.unified, threads) })
	require.NoError(t, r.unified.dir.WriteFile(threads+"/cgroup.type", "threaded"))
	_, err := r.Create(threads+"/web", want)
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	for _, h := range r.hierarchies {
		there, err := h.dir.Has(threads + "/web")
		require.NoError(t, err)
		assert.False(t, there, h.dir.Path())
	}
}

// A tree that may grow no deeper or larger says which limit that is (fault 41).
func TestCreateTreeLimits(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	if r.unified == nil {
		testutil.Skip(t, testutil.UnifiedTree, "%v", r.noUnified)
	}
	a := newGroup(t, r, 0)
	b := newGroupAt(t, r, a.Path()+"/b", 0)
	for file, path := range map[string]string{"cgroup.max.depth": b.Path() + "/c", "cgroup.max.descendants": b.Path() + "/c"} {
		require.NoError(t, a.unified().dir.WriteFile(file, "1"))
		_, err := r.Create(path, 0)
		var limit *TreeLimitError
		require.ErrorAs(t, err, &limit, file)
		require.ErrorIs(t, err, syscall.EAGAIN)
		assert.Equal(t, a.unified().dir.Join(file), limit.Path)
		assert.Equal(t, "1", limit.Limit)
		_, err = r.Open(path)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NoError(t, a.unified().dir.WriteFile(file, "max"))
	}
}

// A v1 cpuset is usable from the start, also below a group that a foreign tool
// has left without CPUs, and with clone_children (fault 36).
func TestCreateCPUSet(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("cpuset"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	h := r.where[ControllerCPUSet]
	name := testutil.CgroupName(t)
	for _, dir := range []string{name, name + "/b"} {
		for _, h := range r.hierarchies {
			require.NoError(t, h.dir.Mkdir(dir, 0o755))
		}
	}
	owned, err := r.Open(name)
	require.NoError(t, err)
	owned.Own()
	t.Cleanup(func() {
		assert.NoError(t, owned.Remove(t.Context()))
		assert.NoError(t, owned.Close())
	})
	read := func(path string) string {
		b, err := h.dir.ReadFile(path, nil)
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}
	require.Empty(t, read(name+"/b/cpuset.cpus"), "the kernel leaves it empty")
	c := newGroupAt(t, r, name+"/b/c", 0)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		assert.NotEmpty(t, read(file))
		assert.Equal(t, read(file), read(c.Path()+"/"+file))
		assert.Equal(t, read(file), read(name+"/"+file))
	}
	spawn(t, c, "read x")

	require.NoError(t, h.dir.WriteFile(name+"/cgroup.clone_children", "1"))
	d := newGroupAt(t, r, name+"/d", 0)
	assert.Equal(t, read("cpuset.cpus"), read(d.Path()+"/cpuset.cpus"))
}

func TestOpen(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c, err := r.Create(testutil.CgroupName(t), ControllersOf(ControllerPIDs))
	require.NoError(t, err)
	o, err := r.Open(c.Path())
	require.NoError(t, err)
	assert.Equal(t, c.ID(), o.ID())
	assert.Len(t, o.places(), len(c.places()))
	o.Own()
	require.NoError(t, o.Remove(t.Context()))
	c.hasGone(t)
	require.NoError(t, errors.Join(o.Close(), c.Close(), r.Close()))
	_, err = r.Open(c.Path())
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = r.Create(c.Path(), 0)
	require.ErrorIs(t, err, os.ErrClosed)
}

// An ordinary user can do everything in a tree that was given to him, and gets
// a plain refusal elsewhere.
func TestDelegated(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	testutil.CheckLeaks(t)
	if r, err := Open(""); err == nil {
		_, err = r.Create(testutil.CgroupName(t), 0)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.NoError(t, r.Close())
	} else {
		require.True(t, errors.Is(err, ErrNotSupported) || errors.Is(err, fs.ErrNotExist), "%v", err)
	}
	r, err := Open(testutil.Delegated(t))
	require.NoError(t, err)
	defer r.Close()
	assert.Equal(t, Unified, r.Mode())
	name := testutil.CgroupName(t)
	a, err := r.Create(name, 0)
	require.NoError(t, err)
	b, err := r.Create(name+"/b", 0)
	require.NoError(t, err)
	require.NoError(t, b.SetLabel("k", "v"))
	labels, err := b.Labels()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, labels)
	require.NoError(t, b.Freeze(t.Context()))
	require.NoError(t, b.Thaw(t.Context()))
	require.NoError(t, b.Kill(t.Context()))
	require.NoError(t, b.Remove(t.Context()))
	require.NoError(t, a.Remove(t.Context()))
	require.NoError(t, errors.Join(a.Close(), b.Close()))
}

// TestLimitHoldsChildren has a group's memory count what is below it, also where
// the kernel's default is that it does not.
func TestLimitHoldsChildren(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	parent := newGroup(t, r, 0)
	n := parent.node(ControllerMemory)
	if n == nil || n.in.v2 {
		testutil.Skip(t, testutil.Cgroup1("memory"), "memory is not in a v1 tree")
	}
	text, err := n.dir.ReadFile(useHierarchyV1, nil)
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(text))
	child := newGroupAt(t, r, parent.Path()+"/child", 0)
	text, err = child.node(ControllerMemory).dir.ReadFile(useHierarchyV1, nil)
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(text))
}
