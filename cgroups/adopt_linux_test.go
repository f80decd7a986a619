// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everyDir is every directory below the tops, but for what other tests make.
func everyDir(tb testing.TB, r *Root, name string) (list []string) {
	tb.Helper()
	for _, h := range r.hierarchies {
		dir, err := h.dir.OpenDir(name)
		if kernfs.IsGone(err) {
			continue
		}
		require.NoError(tb, err)
		require.NoError(tb, walk(dir, func(d *kernfs.Dir) error {
			list = append(list, h.name()+":"+d.Path())
			return nil
		}))
		require.NoError(tb, dir.Close())
	}
	return list
}

// rawGroup makes a directory in one tree behind the package's back.
func rawGroup(tb testing.TB, h *hierarchy, path string) {
	tb.Helper()
	require.NoError(tb, h.dir.Mkdir(path, 0o755))
	tb.Cleanup(func() { removeRaw(tb, h, path) })
}

// rawMove moves a process in one tree.
func rawMove(tb testing.TB, h *hierarchy, path string, pid int) {
	tb.Helper()
	require.NoError(tb, h.dir.WriteFile(filepath.Join(path, fileProcs), strconv.Itoa(pid)))
}

func adoptProcess(tb testing.TB, r *Root, pid int) *Cgroup {
	tb.Helper()
	c, err := r.AdoptProcess(pid)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	return c
}

// Somebody else's group is limited and measured, in the trees where it is, and
// nothing is made, ended or removed.
func TestAdopt(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for name, adopt := range map[string]func(g *Cgroup, pid int) (*Cgroup, error){
		"path":    func(g *Cgroup, _ int) (*Cgroup, error) { return r.Adopt(g.Path()) },
		"process": func(_ *Cgroup, pid int) (*Cgroup, error) { return r.AdoptProcess(pid) },
	} {
		t.Run(name, func(t *testing.T) {
			theirs := newGroup(t, r, ControllersOf(ControllerPIDs))
			s := spawn(t, theirs, "read x")
			before := everyDir(t, r, theirs.Path())

			c, err := adopt(theirs, s.Process.Pid)
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			assert.True(t, c.Adopted())
			assert.False(t, theirs.Adopted())
			assert.Equal(t, theirs.ID(), c.ID())
			assert.Equal(t, theirs.Path(), c.Path())

			_, err = c.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(33)}})
			require.NoError(t, err)
			b, err := theirs.node(ControllerPIDs).word("pids.max")
			require.NoError(t, err)
			assert.Equal(t, "33", b)
			var stats Stats
			require.NoError(t, c.Stat(&stats))
			require.NoError(t, c.Freeze(t.Context()))
			frozen, err := theirs.Frozen()
			require.NoError(t, err)
			assert.True(t, frozen)
			require.NoError(t, c.Thaw(t.Context()))

			// A controller that its maker has not put it under.
			want := Resources{CPUSet: CPUSet{CPUs: SetOf(0)}}
			_, err = c.Plan(want)
			require.ErrorIs(t, err, ErrNotSupported)
			_, err = c.Update(t.Context(), want)
			var unsupported *UnsupportedError
			require.ErrorAs(t, err, &unsupported)
			assert.NotEmpty(t, unsupported.Reason)
			if theirs.node(ControllerFreezer) == nil && r.where[ControllerFreezer] != nil {
				_, err = c.ensure(t.Context(), ControllerFreezer)
				require.ErrorIs(t, err, ErrNotSupported)
			}

			c.Own()
			require.ErrorIs(t, c.Kill(t.Context()), ErrInvalid)
			require.NoError(t, c.Remove(t.Context()))
			assert.Equal(t, before, everyDir(t, r, theirs.Path()))
			assert.Equal(t, []int{s.Process.Pid}, procs(t, theirs))
			all, err := c.AllProcs()
			require.NoError(t, err)
			assert.Equal(t, []int{s.Process.Pid}, all)
		})
	}
}

// On v2 a controller that is not passed on to the group stays so: enabling it
// would change the groups beside it.
func TestAdoptEnablesNothing(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("pids"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	parent := newGroup(t, r, ControllersOf(ControllerPIDs))
	rawGroup(t, r.unified, parent.Path()+"/theirs")
	c, err := r.Adopt(parent.Path() + "/theirs")
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	_, err = c.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(3)}})
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, "does not pass it on")
	b, err := parent.main().word(fileSubtree)
	require.NoError(t, err)
	assert.Empty(t, b)
}

// On v1 a container may have another path in each tree.
func TestAdoptManyPaths(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("cpu"), testutil.Cgroup1("memory"), testutil.Cgroup1("pids"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	name := testutil.CgroupName(t)
	cpu, memory, pids := r.where[ControllerCPU], r.where[ControllerMemory], r.where[ControllerPIDs]
	rawGroup(t, cpu, name)
	rawGroup(t, cpu, name+"/here")
	rawGroup(t, memory, name)
	rawGroup(t, memory, name+"/there")
	rawGroup(t, memory, name+"/there/it-is")
	s, neighbour := start(t, "read x"), start(t, "read x")
	rawMove(t, cpu, name+"/here", s.Process.Pid)
	rawMove(t, memory, name+"/there/it-is", s.Process.Pid)

	c := adoptProcess(t, r, s.Process.Pid)
	places, err := c.Places()
	require.NoError(t, err)
	paths := map[string]string{}
	for _, p := range places {
		paths[p.Tree] = p.Path
	}
	assert.Equal(t, map[string]string{cpu.name(): name + "/here", memory.name(): name + "/there/it-is"}, paths)
	assert.True(t, c.Controllers().Has(ControllerMemory))
	result, err := c.Update(t.Context(), Resources{CPU: CPU{Max: CPUs(0.5)}, Memory: Memory{Max: Bytes(64 << 20)}})
	require.NoError(t, err)
	assert.NotEmpty(t, result.Changes)
	b, err := memory.dir.ReadFile(name+"/there/it-is/memory.limit_in_bytes", nil)
	require.NoError(t, err)
	assert.Equal(t, "67108864\n", string(b))

	_, err = c.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(5)}})
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, "at the top of the tree")
	var p Pressure
	err = c.Pressure(PressureCPU, &p)
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, "at the top of th")

	again, err := r.Readopt(places)
	require.NoError(t, err)
	assert.Equal(t, c.ID(), again.ID())
	assert.Equal(t, c.Controllers(), again.Controllers())
	require.NoError(t, again.Close())
	wrong := append([]Place{}, places...)
	wrong[0].ID.Ino++
	_, err = r.Readopt(wrong)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.Readopt(nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	wrong[0].Path = "../" + places[0].Path
	_, err = r.Readopt(wrong)
	require.ErrorIs(t, err, ErrInvalid)

	// Shared with a process that is not in the container.
	rawMove(t, cpu, name+"/here", neighbour.Process.Pid)
	shared := adoptProcess(t, r, s.Process.Pid)
	assert.False(t, shared.Controllers().Has(ControllerCPU))
	_, err = shared.Update(t.Context(), Resources{CPU: CPU{Max: CPUs(0.25)}})
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, strconv.Itoa(neighbour.Process.Pid))

	// At a group above its own in another tree: its parent's.
	rawGroup(t, pids, name)
	rawMove(t, pids, name, s.Process.Pid)
	above := adoptProcess(t, r, s.Process.Pid)
	assert.False(t, above.Controllers().Has(ControllerPIDs))
	_, err = above.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(5)}})
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, "only in another tree")
	rawMove(t, pids, "", s.Process.Pid)
}

// A directory of the same path that the container's processes are not in says
// nothing about it, least of all that it has no pressure.
func TestAdoptIgnoresNamesakes(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("pids"), testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	name := testutil.CgroupName(t)
	rawGroup(t, r.where[ControllerPIDs], name)
	rawGroup(t, r.unified, name)
	s := start(t, "read x")
	rawMove(t, r.where[ControllerPIDs], name, s.Process.Pid)
	c, err := r.Adopt(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	assert.Nil(t, c.unified())
	var p Pressure
	err = c.Pressure(PressureMemory, &p)
	require.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorContains(t, err, "processes are not in")
}

func TestAdoptRefuses(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	for _, pid := range []int{0, -1, -4711} {
		_, err := r.AdoptProcess(pid)
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err := r.AdoptProcess(1<<22 + 1)
	require.ErrorIs(t, err, syscall.ESRCH)
	for _, p := range badPaths {
		_, err := r.Adopt(p)
		require.ErrorIs(t, err, ErrInvalid, p)
	}
	_, err = r.Adopt(testutil.CgroupName(t))
	require.ErrorIs(t, err, os.ErrNotExist)

	// A process that is nowhere but at the tops: kernel threads are.
	_, err = r.AdoptProcess(2)
	if err != nil {
		require.ErrorIs(t, err, ErrInvalid)
		assert.ErrorContains(t, err, "no group of its own")
	}
}

// Somebody else's freezer is told, and left to him.
func TestFrozenByAnother(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("freezer"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	theirs := newGroup(t, r, ControllersOf(ControllerFreezer))
	s := spawn(t, theirs, "read x")
	c := adoptProcess(t, r, s.Process.Pid)
	legacy := theirs.node(ControllerFreezer)
	require.NoError(t, legacy.freezeLegacy(t.Context()))
	frozen, err := c.Frozen()
	require.NoError(t, err)
	assert.True(t, frozen)
	err = c.Thaw(t.Context())
	if c.unified() != nil {
		require.Error(t, err)
		state, err := legacy.word(fileFreezer)
		require.NoError(t, err)
		assert.Equal(t, "FROZEN", state)
	}
	require.NoError(t, legacy.thawLegacy())
	require.NoError(t, c.Thaw(t.Context()))
}
