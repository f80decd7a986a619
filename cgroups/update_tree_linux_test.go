// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// family3 makes a group with two children, "a" and "b".
func family3(tb testing.TB, r *Root, want Controllers) (groups [3]*Cgroup) {
	tb.Helper()
	groups[0] = newGroup(tb, r, want)
	for i, name := range []string{"a", "b"} {
		groups[i+1] = newGroupAt(tb, r, groups[0].Path()+"/"+name, want)
	}
	return groups
}

// familyState is the knobs of all the groups.
func familyState(t *testing.T, groups []*Cgroup) map[string]string {
	all := make(map[string]string)
	for _, g := range groups {
		for name, text := range knobState(t, g) {
			all[g.Path()+" "+name] = text
		}
	}
	return all
}

// wantAll gives each of the groups what this kernel has of the resources with
// the same index.
func wantAll(t *testing.T, groups []*Cgroup, wants ...Resources) (all []GroupResources) {
	for i, r := range wants {
		all = append(all, GroupResources{groups[i], supported(t, groups[i], r)})
	}
	return all
}

// TestUpdateAllTransitions takes a parent and two children through settings
// that no order of single updates gets through on every layout, and lets each
// write fail on the way (faults 32 and 35).
func TestUpdateAllTransitions(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	members := family3(t, root, root.Controllers()&ControllersOf(ControllerCPU, ControllerCPUSet, ControllerMemory, ControllerPIDs))
	groups := members[:]
	const mib = 1 << 20
	r := func(cpus float64, max uint64, pids uint64, set Set) Resources {
		return Resources{
			CPU: CPU{Max: CPUs(cpus)}, Memory: Memory{Max: Bytes(max * mib), High: Bytes(max / 2 * mib), Low: Bytes(max / 4 * mib)},
			PIDs: PIDs{Max: Count(pids)}, CPUSet: CPUSet{CPUs: set},
		}
	}
	faults := 0
	for i, wants := range [][]Resources{
		{r(1, 256, 100, SetOf(0)), r(0.5, 128, 50, SetOf(0)), r(0.5, 128, 50, SetOf(0))},
		{r(1.5, 64, 200, SetOf(1)), r(1.5, 32, 150, SetOf(1)), r(0.1, 32, 10, DefaultSet())},
		{r(0.2, 512, 20, SetOf(0, 1)), r(0.1, 128, 20, SetOf(0)), r(0.2, 512, 20, SetOf(1))},
		{r(0.2, 512, 20, SetOf(0)), r(0.1, 128, 20, SetOf(0)), r(0.2, 512, 20, SetOf(0))},
		{{CPU: CPU{Max: Quota(400*time.Millisecond, 400*time.Millisecond)}}, {CPU: CPU{Max: Quota(10*time.Millisecond, 10*time.Millisecond)}}, {CPU: CPU{Max: NoQuota()}}},
		{{CPU: CPU{Max: DefaultBandwidth()}, CPUSet: CPUSet{CPUs: DefaultSet()}}, {CPUSet: CPUSet{CPUs: DefaultSet()}}, {Memory: Memory{Max: Max(), High: Default(), Low: Default()}, CPUSet: CPUSet{CPUs: DefaultSet()}}},
	} {
		all := wantAll(t, groups, wants...)
		p, err := root.PlanAll([]GroupResources{all[2], all[0], all[1]})
		require.NoError(t, err)
		require.Empty(t, p.Enable)
		before := familyState(t, groups)
		for at := range p.Changes {
			if testutil.Emulated() && at%5 != i%5 {
				continue
			}
			takes := at%2 == 0
			count := 0
			var named []group
			for _, g := range all {
				tree := &faultyTree{groupTree: filesOf(g.Cgroup), at: at, takes: takes, count: &count}
				tree.update = true
				defer tree.close()
				named = append(named, group{tree, g.Cgroup.Path(), &g.Resources})
			}
			changes, err := plan(pageSize, named, UpdateConfig{})
			require.NoError(t, err)
			require.Len(t, changes, len(p.Changes))
			var u *UpdateError
			require.ErrorAs(t, apply(t.Context(), changes), &u)
			require.ErrorIs(t, u.Err, errInjected)
			require.NoError(t, u.Undo)
			require.Equal(t, before, familyState(t, groups), "write %d of\n%s", at, p)
			faults++
		}
		res, err := root.UpdateAll(t.Context(), all)
		require.NoError(t, err, "%s", p)
		require.Len(t, res.Changes, len(p.Changes))
		again, err := root.UpdateAll(t.Context(), all)
		require.NoError(t, err)
		require.Empty(t, again.Changes)
		after := familyState(t, groups)
		require.NoError(t, res.Revert())
		require.Equal(t, before, familyState(t, groups), "reverted\n%s", p)
		_, err = root.UpdateAll(t.Context(), p.WantedAll())
		require.NoError(t, err)
		require.Equal(t, after, familyState(t, groups))
	}
	t.Logf("%d faults", faults)
}

// TestUpdateAllRefused has the kernel refuse what a group that is not named
// stands against, on v1.
func TestUpdateAllRefused(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	_, v, ok := root.Where(ControllerCPUSet)
	if !ok || v != 1 {
		testutil.Require(t, testutil.Cgroup1("cpuset"))
	}
	members := family3(t, root, ControllersOf(ControllerCPUSet))
	groups := members[:]
	before := familyState(t, groups)
	_, err := root.UpdateAll(t.Context(), []GroupResources{
		{groups[1], Resources{CPUSet: CPUSet{CPUs: SetOf(0)}}}, {groups[0], Resources{CPUSet: CPUSet{CPUs: SetOf(0)}}},
	})
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "b has ")
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.NoError(t, u.Undo)
	require.Equal(t, groups[0].Path(), u.Failed.Cgroup)
	require.Equal(t, before, familyState(t, groups))
}

// TestUpdateAllChecks gives UpdateAll what it refuses before it touches anything.
func TestUpdateAllChecks(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root, other := openRoot(t), openRoot(t)
	c := newGroup(t, root, 0)
	again, err := root.Open(c.Path())
	require.NoError(t, err)
	defer again.Close()
	r := Resources{PIDs: PIDs{Max: Count(9)}}
	for name, all := range map[string][]GroupResources{
		"a second entry":  {{c, r}, {again, r}},
		"none":            {{c, r}, {nil, r}},
		"above 4194304":   {{c, Resources{PIDs: PIDs{Max: Count(1 << 40)}}}},
		"of another root": nil,
	} {
		r := root
		if all == nil {
			r, all = other, []GroupResources{{c, Resources{}}}
		}
		_, err := r.UpdateAll(t.Context(), all)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, name)
		_, err = r.PlanAll(all)
		require.ErrorIs(t, err, ErrInvalid)
	}
	res, err := root.UpdateAll(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, res.Changes)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = root.UpdateAll(ctx, []GroupResources{{c, r}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, Result{Changes: []Change{{Path: "/x"}}}.Revert(), ErrInvalid)
}

// TestUpdateAllGone removes a child in the middle of an update of its parent.
func TestUpdateAllGone(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	pod := newGroup(t, root, root.Controllers()&ControllersOf(ControllerCPU, ControllerPIDs))
	child, err := root.Create(pod.Path()+"/a", pod.Controllers())
	require.NoError(t, err)
	defer child.Close()
	before := knobState(t, pod)
	all := wantAll(t, []*Cgroup{pod, child}, Resources{PIDs: PIDs{Max: Count(9)}, CPU: CPU{Weight: WeightOf(7)}}, Resources{PIDs: PIDs{Max: Count(8)}})
	var named []group
	for _, g := range all {
		tree := filesOf(g.Cgroup)
		tree.update = true
		defer tree.close()
		named = append(named, group{tree, g.Cgroup.Path(), &g.Resources})
	}
	changes, err := plan(pageSize, named, UpdateConfig{})
	require.NoError(t, err)
	require.NoError(t, child.Remove(t.Context()))
	var u *UpdateError
	require.ErrorAs(t, apply(t.Context(), changes), &u)
	require.ErrorIs(t, u, ErrGone)
	require.NoError(t, u.Undo)
	assert.Equal(t, child.Path(), u.Failed.Cgroup)
	require.Equal(t, before, knobState(t, pod))
	_, err = root.UpdateAll(t.Context(), all)
	require.ErrorIs(t, err, ErrGone)
	require.Equal(t, before, knobState(t, pod))
}

// TestUpdateFrozen updates every knob of frozen groups: none hangs, and they
// stay frozen.
func TestUpdateFrozen(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	want := root.Controllers() & ControllersOf(ControllerCPU, ControllerCPUSet, ControllerMemory, ControllerPIDs, ControllerDevices, ControllerFreezer)
	members := family3(t, root, want)
	groups := members[1:] // on v2 there are processes only at the bottom
	for _, g := range groups {
		do := tenant(t, g)
		require.Equal(t, "ok", do("alive"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Patience(20*time.Second))
	defer cancel()
	for _, g := range groups {
		t.Cleanup(func() { // or the tenant does not end
			ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(10*time.Second))
			defer cancel()
			assert.NoError(t, g.Thaw(ctx))
		})
		require.NoError(t, g.Freeze(ctx))
	}
	for i, r := range []Resources{
		{
			CPU: CPU{Weight: WeightOf(500), Max: CPUs(0.5), Burst: DurationOf(time.Millisecond)}, PIDs: PIDs{Max: Count(100)},
			Memory: Memory{Max: Bytes(256 << 20), High: Bytes(128 << 20)}, CPUSet: CPUSet{CPUs: SetOf(0), Mems: SetOf(0)},
			Devices: DefaultDevices(),
		},
		{CPU: CPU{Idle: On, Max: DefaultBandwidth(), Burst: DurationOf(0)}, Memory: Memory{Max: Max(), High: Max()}, CPUSet: CPUSet{CPUs: DefaultSet()}, PIDs: PIDs{Max: Max()}},
		{CPU: CPU{Idle: Off, Weight: WeightOf(100)}, Devices: AllDevices()},
	} {
		all := wantAll(t, groups, r, r)
		_, err := root.UpdateAll(ctx, all)
		require.NoError(t, err)
		for _, g := range groups {
			frozen, err := g.Frozen()
			require.NoError(t, err)
			require.True(t, frozen, "%d: %s", i, g.Path())
		}
	}
}

// An interrupted update leaves no group locked, whatever the order in which
// two transactions name their groups.
func TestUpdateAllConcurrent(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	members := family3(t, root, ControllersOf(ControllerPIDs)&root.Controllers())
	requireController(t, root, ControllerPIDs)
	errs := make(chan error)
	for i := range 4 {
		go func() {
			var err error
			for n := range 50 {
				all := []GroupResources{}
				for j := range members {
					all = append(all, GroupResources{members[(i+j)%3], Resources{PIDs: PIDs{Max: Count(uint64(100 + i*50 + n))}}})
				}
				if _, e := root.UpdateAll(t.Context(), all); e != nil {
					err = errors.Join(err, e)
				}
			}
			errs <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-errs)
	}
	var held []string
	for _, g := range members {
		now, err := g.Resources()
		require.NoError(t, err)
		held = append(held, fmt.Sprint(now.PIDs.Max))
	}
	assert.Equal(t, strings.Repeat(held[0]+" ", 3), strings.Join(held, " ")+" ", "one of them as a whole")
}
