// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTreeOrder holds the order of writes over a tree to text.
func TestTreeOrder(t *testing.T) {
	const mib, ms = 1 << 20, time.Millisecond
	memory := func(max uint64) Resources { return Resources{Memory: Memory{Max: Bytes(max * mib)}} }
	cpus := func(cpus ...int) Resources { return Resources{CPUSet: CPUSet{CPUs: SetOf(cpus...)}} }
	quota := func(q, p time.Duration) Resources { return Resources{CPU: CPU{Max: Quota(q*ms, p*ms)}} }
	fakes := make(map[int][]*fakeTree)
	for i, tc := range []struct {
		version int
		wants   map[string]Resources
		writes  []string
	}{
		// All fall: the bottom first. All rise: the top first.
		{2, map[string]Resources{"p": memory(40), "p/a": memory(20), "p/a/x": memory(10)},
			[]string{"p/a/x memory.max=10485760", "p/a memory.max=20971520", "p memory.max=41943040"}},
		{2, map[string]Resources{"p": memory(80), "p/a": memory(40), "p/a/x": memory(20)},
			[]string{"p memory.max=83886080", "p/a memory.max=41943040", "p/a/x memory.max=20971520"}},
		// One child gives to another, under a parent that stays.
		{2, map[string]Resources{"p/a": memory(60), "p/b": memory(20)},
			[]string{"p/a memory.max=62914560", "p/b memory.max=20971520"}},
		// One knob rises while another falls; memory falls last.
		{2, map[string]Resources{
			"p":   {Memory: Memory{Max: Bytes(70 * mib)}, CPU: CPU{Max: CPUs(2)}, PIDs: PIDs{Max: Count(100)}},
			"p/a": {Memory: Memory{Max: Bytes(50 * mib)}, CPU: CPU{Max: CPUs(1)}, PIDs: PIDs{Max: Count(50)}},
		}, []string{
			"p/a pids.max=50", "p/a cpu.max=100000 100000", "p pids.max=100", "p cpu.max=200000 100000",
			"p/a memory.max=52428800", "p memory.max=73400320",
		}},
		{2, map[string]Resources{
			"p":   {CPU: CPU{Max: CPUs(1)}, PIDs: PIDs{Max: Count(200)}},
			"p/a": {CPU: CPU{Max: CPUs(0.5)}, PIDs: PIDs{Max: Count(100)}},
		}, []string{"p pids.max=200", "p/a pids.max=100", "p/a cpu.max=50000 100000", "p cpu.max=100000 100000"}},
		// Protections: within the parent's at each moment.
		{2, map[string]Resources{"p": {Memory: Memory{Min: Bytes(8 * mib), Low: Bytes(16 * mib)}}, "p/a": {Memory: Memory{Min: Bytes(4 * mib), Low: Bytes(8 * mib)}}},
			[]string{"p memory.low=16777216", "p memory.min=8388608", "p/a memory.low=8388608", "p/a memory.min=4194304"}},
		{2, map[string]Resources{"p": {Memory: Memory{Min: Default()}}, "p/a": {Memory: Memory{Min: Default()}}},
			[]string{"p/a memory.min=0", "p memory.min=0"}},
		// A partition comes after its parent's, and goes before it.
		{2, map[string]Resources{"p": {CPUSet: CPUSet{CPUs: SetOf(0, 1), Partition: PartitionRoot}}, "p/a": {CPUSet: CPUSet{CPUs: SetOf(0), Partition: PartitionRoot}}},
			[]string{"p cpuset.cpus=0-1", "p/a cpuset.cpus=0", "p cpuset.cpus.partition=root", "p/a cpuset.cpus.partition=root"}},
		{2, map[string]Resources{"p": {CPUSet: CPUSet{CPUs: DefaultSet(), Partition: PartitionMember}}, "p/a": {CPUSet: CPUSet{CPUs: DefaultSet(), Partition: PartitionMember}}},
			[]string{"p/a cpuset.cpus.partition=member", "p cpuset.cpus.partition=member", "p/a cpuset.cpus=\n", "p cpuset.cpus=\n"}},

		{1, map[string]Resources{"p": cpus(0, 1), "p/a": cpus(0), "p/a/x": cpus(0), "p/b": cpus(1)},
			[]string{"p/b cpuset.cpus=1", "p/a/x cpuset.cpus=0", "p/a cpuset.cpus=0", "p cpuset.cpus=0-1"}},
		// All move on: through the union.
		{1, map[string]Resources{"p": cpus(2, 3), "p/a": cpus(3), "p/a/x": cpus(3), "p/b": cpus(2)}, []string{
			"p cpuset.cpus=0-3", "p/a cpuset.cpus=0,3", "p/a/x cpuset.cpus=0,3", "p/b cpuset.cpus=1-2",
			"p/b cpuset.cpus=2", "p/a/x cpuset.cpus=3", "p/a cpuset.cpus=3", "p cpuset.cpus=2-3",
		}},
		// "As the parent" is as the parent will be.
		{1, map[string]Resources{"p": cpus(4, 5, 6), "p/a": {CPUSet: CPUSet{CPUs: DefaultSet()}}, "p/a/x": cpus(5), "p/b": cpus(6)}, []string{
			"p cpuset.cpus=2-6", "p/a cpuset.cpus=3-6", "p/a/x cpuset.cpus=3,5", "p/b cpuset.cpus=2,6",
			"p/b cpuset.cpus=6", "p/a/x cpuset.cpus=5", "p/a cpuset.cpus=4-6", "p cpuset.cpus=4-6",
		}},
		{1, map[string]Resources{"p": quota(100, 100), "p/a": quota(50, 100), "p/b": quota(100, 100)}, []string{
			"p/b cpu.cfs_quota_us=100000", "p/a cpu.cfs_quota_us=50000", "p cpu.cfs_quota_us=100000",
		}},
		{1, map[string]Resources{"p": quota(400, 200), "p/a": quota(30, 20), "p/b": quota(200, 200)}, []string{
			"p cpu.cfs_quota_us=-1", "p cpu.cfs_period_us=200000", "p cpu.cfs_quota_us=400000",
			"p/a cpu.cfs_quota_us=-1", "p/a cpu.cfs_period_us=20000", "p/a cpu.cfs_quota_us=30000",
			"p/b cpu.cfs_period_us=200000", "p/b cpu.cfs_quota_us=200000",
		}},
		{1, map[string]Resources{
			"p":   {Memory: Memory{Max: Bytes(64 * mib), Swap: Bytes(0)}},
			"p/a": {Memory: Memory{Max: Bytes(32 * mib), Swap: Bytes(16 * mib)}},
		}, []string{
			"p/a " + limitV1 + "=33554432", "p/a " + memswV1 + "=50331648", "p " + limitV1 + "=67108864", "p " + memswV1 + "=67108864",
		}},
		{1, map[string]Resources{"p": memory(128), "p/a": memory(48)}, []string{
			"p " + memswV1 + "=134217728", "p " + limitV1 + "=134217728", "p/a " + memswV1 + "=67108864", "p/a " + limitV1 + "=50331648",
		}},
	} {
		groups := fakes[tc.version]
		if groups == nil {
			groups = newFamily(t, tc.version, "p", "p/a", "p/a/x", "p/b")
			fakes[tc.version] = groups
		}
		changes, err := planFamily(groups, tc.wants)
		require.NoError(t, err, i)
		log := groups[0].log
		log.writes = nil
		require.NoError(t, apply(t.Context(), changes), "%s", Plan{Changes: changes})
		assert.Equal(t, tc.writes, log.writes, "%d\n%s", i, Plan{Changes: changes})
		again, err := planFamily(groups, tc.wants)
		require.NoError(t, err)
		require.Empty(t, again)
	}
}

// TestTreeSaysWhy shows a plan for a tree.
func TestTreeSaysWhy(t *testing.T) {
	groups := newFamily(t, 1, "p", "p/a")
	wants := map[string]Resources{
		"p":   {CPUSet: CPUSet{CPUs: SetOf(0, 1)}, CPU: CPU{Weight: WeightOf(1)}},
		"p/a": {CPUSet: CPUSet{CPUs: SetOf(0)}},
	}
	changes, err := planFamily(groups, wants)
	require.NoError(t, err)
	require.NoError(t, apply(t.Context(), changes))
	wants["p"], wants["p/a"] = Resources{CPUSet: CPUSet{CPUs: SetOf(2, 3)}}, Resources{CPUSet: CPUSet{CPUs: SetOf(2)}}
	changes, err = planFamily(groups, wants)
	require.NoError(t, err)
	const union = "; what it had and what it gets, until the groups above and below have changed"
	assert.Equal(t, `1. write "0-3" to /fake/p/cpuset.cpus, was "0-1": grows before the groups below it`+union+`
2. write "0,2" to /fake/p/a/cpuset.cpus, was "0": grows after the group above it`+union+`
3. write "2" to /fake/p/a/cpuset.cpus, was "0,2": shrinks before the group above it
4. write "2-3" to /fake/p/cpuset.cpus, was "0-3": shrinks after the groups below it`, Plan{Changes: changes}.String())
	for i, name := range []string{"p", "p/a", "p/a", "p"} {
		assert.Equal(t, name, changes[i].Cgroup)
	}
}

// TestRunc1635CPUSetShrinkWithChildren: a list that a child which was not named
// is not within. The kernel's EBUSY is undone and says who has more.
func TestRunc1635CPUSetShrinkWithChildren(t *testing.T) {
	groups := newFamily(t, 1, "p", "p/a", "p/b")
	changes, err := planFamily(groups, map[string]Resources{
		"p":   {PIDs: PIDs{Max: Count(5)}, CPUSet: CPUSet{CPUs: SetOf(0, 1)}},
		"p/a": {CPUSet: CPUSet{CPUs: SetOf(0)}},
	})
	require.NoError(t, err)
	before := states(groups)
	err = apply(t.Context(), changes)
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "a child group has more; b has 0-7")
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.NoError(t, u.Undo)
	require.Equal(t, "p", u.Failed.Cgroup)
	require.Equal(t, before, states(groups))
}

// TestRunc2044QuotaAbovePod: v1 refuses a share above the pod's, and one of the
// pod below the container's. Together they go through, in the order that fits.
func TestRunc2044QuotaAbovePod(t *testing.T) {
	groups := newFamily(t, 1, "p", "p/a")
	share := func(n float64) Resources { return Resources{CPU: CPU{Max: CPUs(n)}} }
	do := func(wants map[string]Resources) error {
		changes, err := planFamily(groups, wants)
		require.NoError(t, err)
		return apply(t.Context(), changes)
	}
	require.NoError(t, do(map[string]Resources{"p": share(2), "p/a": share(1)}))
	before := states(groups)
	err := do(map[string]Resources{"p/a": share(3)})
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, "the parent has 200000/100000")
	err = do(map[string]Resources{"p": share(0.5)})
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, "a has 100000/100000")
	require.Equal(t, before, states(groups))

	require.NoError(t, do(map[string]Resources{"p": share(4), "p/a": share(3)}))
	require.NoError(t, do(map[string]Resources{"p": share(0.5), "p/a": share(0.25)}))
	require.NoError(t, do(map[string]Resources{"p": {CPU: CPU{Max: DefaultBandwidth()}}, "p/a": share(7)}))
}

// TestTreeGone removes a group of the tree in the middle of an update.
func TestTreeGone(t *testing.T) {
	for version := 1; version <= 2; version++ {
		groups := newFamily(t, version, "p", "p/a", "p/b")
		before := states(groups)
		wants := map[string]Resources{}
		for _, f := range groups {
			wants[f.name] = Resources{PIDs: PIDs{Max: Count(9)}, CPU: CPU{Weight: WeightOf(7)}}
		}
		changes, err := planFamily(groups, wants)
		require.NoError(t, err)
		n := 0
		groups[0].log.after = func() {
			if n++; n == 4 { // a has its weight, and one knob of each other group is written
				groups[1].gone = true
			}
		}
		err = apply(t.Context(), changes)
		require.ErrorIs(t, err, ErrGone)
		var u *UpdateError
		require.ErrorAs(t, err, &u)
		assert.Equal(t, "p/a", u.Failed.Cgroup)
		require.NoError(t, u.Undo)
		require.Empty(t, u.Left)
		for _, c := range u.Undone {
			assert.NotEqual(t, "p/a", c.Cgroup, "nothing can be undone in it")
		}
		assert.NotEmpty(t, u.Undone)
		groups[1].gone = false
		after := states(groups)
		delete(before, "p/a")
		delete(after, "p/a")
		require.Equal(t, before, after)
	}
}

// states is everything that an update of the groups may change.
func states(groups []*fakeTree) map[string]map[string]string {
	all := make(map[string]map[string]string)
	for _, f := range groups {
		all[f.name] = f.state()
	}
	return all
}

// TestUpdateErrorTellsWhatHolds fails at a write that has done its work, and at
// taking it back.
func TestUpdateErrorTellsWhatHolds(t *testing.T) {
	f := newFake(t, 2)
	f.files["cpu.weight"] = "500"
	changes, err := planOf(f, Resources{CPU: CPU{Idle: On}, PIDs: PIDs{Max: Count(5)}})
	require.NoError(t, err)
	require.Equal(t, "cpu.idle", changes[1].File)
	f.fault = func(n int, file string) (error, bool) {
		switch n {
		case 1: // idle is on, and says that it is not
			return errInjected, true
		case 3: // it is off again, but the weight does not come back
			return errInjected, false
		}
		return nil, true
	}
	err = apply(t.Context(), changes)
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.True(t, errors.Is(u.Undo, errInjected))
	require.Len(t, u.Left, 1)
	assert.Equal(t, [4]string{"fake", "cpu.weight", "500", "100"}, [4]string{u.Left[0].Cgroup, u.Left[0].File, u.Left[0].Old, u.Left[0].Now})
	require.Len(t, u.Undone, 1)
	assert.Equal(t, "100", f.files["cpu.weight"])
	assert.Equal(t, "0", f.files["cpu.idle"])
}

// TestTreeStaysWithin takes a tree through random plans. What a group may have
// is never more than what the group above has, on the way as little as before
// and after.
func TestTreeStaysWithin(t *testing.T) {
	for version := 1; version <= 2; version++ {
		r := randomResources{rand.New(rand.NewPCG(2, uint64(version))), version}
		groups := newFamily(t, version, family...)
		rounds := 500
		if testutil.Emulated() {
			rounds /= 20
		}
		checked := 0
		for range rounds {
			changes, err := planFamily(groups, r.tree())
			if err != nil {
				continue
			}
			before := withinParents(groups)
			var steps []map[string]bool
			groups[0].log.after = func() { steps = append(steps, withinParents(groups)) }
			err = apply(t.Context(), changes)
			groups[0].log.after = nil
			if err != nil {
				continue // it may have failed in between
			}
			after := withinParents(groups)
			for name, held := range before {
				for i, step := range steps {
					require.True(t, step[name] || !held || !after[name], "%s is above its parent's after write %d of\n%s", name, i+1, Plan{Changes: changes})
				}
				checked += len(steps)
			}
		}
		assert.Greater(t, checked, 30*rounds)
	}
}

// withinParents says of each limit of each group whether it is within that of the
// parent.
func withinParents(groups []*fakeTree) map[string]bool {
	all := make(map[string]bool)
	for _, f := range groups {
		if f.up == nil {
			continue
		}
		for _, file := range []string{"pids.max", maxFile, "memory.low", "memory.min", limitV1, memswV1} {
			if _, ok := f.files[file]; ok {
				all[f.name+" "+file] = f.amount(file) <= f.up.amount(file)
			}
		}
		if f.v == 2 {
			b, _ := parseCPUMax(f.files["cpu.max"])
			up, _ := parseCPUMax(f.up.files["cpu.max"])
			all[f.name+" cpu.max"] = b.ratio() <= up.ratio()
		}
	}
	return all
}

// TestKoordinator1460CPUSetCleared: v2 takes no empty list while the group has
// processes, neither to clear it nor to undo the first list (fault 36).
func TestKoordinator1460CPUSetCleared(t *testing.T) {
	groups := newFamily(t, 2, "p", "p/a")
	pod, a := groups[0], groups[1]
	pod.files["cpuset.cpus"], a.files["cpuset.cpus"], a.populated = "0-3", "1", true
	wants := map[string]Resources{"p/a": {CPUSet: CPUSet{CPUs: DefaultSet()}}}
	changes, err := planFamily(groups, wants)
	require.NoError(t, err)
	require.NoError(t, apply(t.Context(), changes))
	assert.Equal(t, "0-3", a.files["cpuset.cpus"])
	assert.Contains(t, changes[0].Why, "refuses an empty list")
	changes, err = planFamily(groups, wants)
	require.NoError(t, err)
	require.Empty(t, changes)

	a.files["cpuset.cpus"] = ""
	changes, err = planFamily(groups, wants)
	require.NoError(t, err)
	require.Empty(t, changes, "it is as the parent is")
	wants["p/a"] = Resources{CPUSet: CPUSet{CPUs: SetOf(2)}, Memory: Memory{Max: Bytes(1 << 30)}}
	changes, err = planFamily(groups, wants)
	require.NoError(t, err)
	pod.log.n = 0
	pod.log.fault = func(n int) (error, bool) {
		if n == 1 {
			return errInjected, false
		}
		return nil, true
	}
	var u *UpdateError
	require.ErrorAs(t, apply(t.Context(), changes), &u)
	require.ErrorIs(t, u.Undo, syscall.ENOSPC)
	require.Len(t, u.Left, 1)
	assert.Equal(t, [2]string{"", "0-3"}, [2]string{u.Left[0].Old, u.Left[0].Now}, "as good as it gets")
}
