// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlanOrder holds the order of coupled writes to text, step by step on one
// group.
func TestPlanOrder(t *testing.T) {
	const mib, ms = 1 << 20, time.Millisecond
	fakes := make(map[int]*fakeTree)
	for _, tc := range []struct {
		version int
		want    Resources
		writes  []string
	}{
		{2, Resources{CPU: CPU{Max: CPUs(1), Burst: DurationOf(50 * ms)}}, []string{"cpu.max.burst=50000", "cpu.max=100000 100000"}},
		{2, Resources{CPU: CPU{Max: CPUs(0.2), Burst: DurationOf(20 * ms)}}, []string{"cpu.max.burst=20000", "cpu.max=20000 100000"}},
		{2, Resources{CPU: CPU{Max: CPUs(0.4), Burst: DurationOf(40 * ms)}}, []string{"cpu.max=40000 100000", "cpu.max.burst=40000"}},
		{2, Resources{CPU: CPU{Idle: On}}, []string{"cpu.idle=1"}},
		{2, Resources{CPU: CPU{Idle: Off, Weight: WeightOf(5)}}, []string{"cpu.idle=0", "cpu.weight=5"}},
		{2, Resources{Memory: Memory{Max: Bytes(8 * mib), High: Bytes(6 * mib), Low: Bytes(4 * mib), Min: Bytes(2 * mib)}},
			[]string{"memory.low=4194304", "memory.min=2097152", "memory.high=6291456", "memory.max=8388608"}},
		{2, Resources{Memory: Memory{Max: Bytes(80 * mib), High: Bytes(60 * mib), Low: Bytes(40 * mib), Min: Bytes(20 * mib)}},
			[]string{"memory.max=83886080", "memory.high=62914560", "memory.low=41943040", "memory.min=20971520"}},
		{2, Resources{Memory: Memory{Max: Bytes(8 * mib), High: Bytes(6 * mib), Low: Bytes(4 * mib), Min: Bytes(2 * mib)}},
			[]string{"memory.min=2097152", "memory.low=4194304", "memory.high=6291456", "memory.max=8388608"}},
		{2, Resources{Memory: Memory{Max: Bytes(8*mib + 5)}}, nil}, // the same pages
		{2, Resources{CPUSet: CPUSet{CPUs: SetOf(0), Partition: PartitionRoot}}, []string{"cpuset.cpus=0", "cpuset.cpus.partition=root"}},
		{2, Resources{CPUSet: CPUSet{CPUs: DefaultSet(), Partition: PartitionMember}}, []string{"cpuset.cpus.partition=member", "cpuset.cpus=\n"}},

		{1, Resources{CPU: CPU{Max: Quota(20*ms, 50*ms)}}, []string{periodV1 + "=50000", quotaV1 + "=20000"}},
		{1, Resources{CPU: CPU{Max: Quota(100*ms, 100*ms)}}, []string{periodV1 + "=100000", quotaV1 + "=100000"}},
		{1, Resources{CPU: CPU{Max: Quota(20*ms, 90*ms)}}, []string{quotaV1 + "=20000", periodV1 + "=90000"}},
		{1, Resources{CPU: CPU{Max: Quota(40*ms, 80*ms)}}, []string{quotaV1 + "=40000", periodV1 + "=80000"}},
		{1, Resources{CPU: CPU{Max: DefaultBandwidth()}}, []string{quotaV1 + "=-1", periodV1 + "=100000"}},
		{1, Resources{Memory: Memory{Max: Bytes(8 * mib), Swap: Bytes(mib)}}, []string{limitV1 + "=8388608", memswV1 + "=9437184"}},
		{1, Resources{Memory: Memory{Max: Bytes(16 * mib)}}, []string{memswV1 + "=17825792", limitV1 + "=16777216"}}, // swap stays 1 MiB
		{1, Resources{Memory: Memory{Max: Max(), Swap: Max()}}, []string{memswV1 + "=-1", limitV1 + "=-1"}},
		{1, Resources{Devices: AllowDevices(DeviceRule{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead | DeviceWrite})},
			[]string{"devices.deny=a *:* rwm", "devices.allow=c 1:3 rw"}},
		{1, Resources{Devices: AllowDevices(
			DeviceRule{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead}, DeviceRule{Type: CharDevice, Major: 1, Minor: 5, Access: DeviceRead})},
			[]string{"devices.allow=c 1:5 r", "devices.deny=c 1:3 w"}},
	} {
		f := fakes[tc.version]
		if f == nil {
			f = newFake(t, tc.version)
			fakes[tc.version] = f
		}
		changes, err := planOf(f, tc.want)
		require.NoError(t, err)
		f.writes = nil
		err = apply(t.Context(), changes)
		require.NoError(t, err)
		assert.Equal(t, tc.writes, f.writes, "%s", Plan{Changes: changes})
	}
}

// TestBandwidthBetweenNeighbours changes quota and period of a group on v1
// whose parent and child leave it no room: each write must fit in.
func TestBandwidthBetweenNeighbours(t *testing.T) {
	const ms = time.Millisecond
	f := newFake(t, 1)
	steps := []Bandwidth{
		Quota(50*ms, 100*ms), Quota(100*ms, 200*ms), Quota(10*ms, 20*ms), Quota(5*ms, 10*ms), Quota(500*ms, 1000*ms), Quota(50*ms, 100*ms),
	}
	for i, b := range slices.Concat(steps, steps) {
		changes, err := planOf(f, Resources{CPU: CPU{Max: b}})
		require.NoError(t, err)
		err = apply(t.Context(), changes)
		require.NoError(t, err, "%d: %s", i, Plan{Changes: changes})
		f.parentRatio, f.childRatio = 0.5, 0.5
	}
	changes, err := planOf(f, Resources{CPU: CPU{Max: CPUs(0.6)}})
	require.NoError(t, err)
	err = apply(t.Context(), changes)
	require.ErrorContains(t, err, "above the parent's")
}

// TestUpdateErrorSays breaks an update and then its undoing (fault 32).
func TestUpdateErrorSays(t *testing.T) {
	f := newFake(t, 2)
	changes, err := planOf(f, Resources{PIDs: PIDs{Max: Count(5)}, CPU: CPU{Weight: WeightOf(7), Max: CPUs(1)}, Memory: Memory{Max: Bytes(1 << 20)}})
	require.NoError(t, err)
	require.Len(t, changes, 4)
	f.fault = func(_ int, file string) (error, bool) {
		if file == "cpu.max" || file == "pids.max" && f.files[file] == "5" {
			return errInjected, false
		}
		return nil, false
	}
	err = apply(t.Context(), changes)
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.ErrorIs(t, u.Err, errInjected)
	require.Error(t, u.Undo)
	assert.Equal(t, "cpu.max", u.Failed.File)
	require.Len(t, u.Applied, 2)
	require.Len(t, u.Undone, 1)
	assert.Equal(t, "cpu.weight", u.Undone[0].File)
	require.Len(t, u.Pending, 1)
	assert.Equal(t, maxFile, u.Pending[0].File)
	assert.Equal(t, "5", f.files["pids.max"])
	assert.Equal(t, "100", f.files["cpu.weight"])
	assert.Contains(t, err.Error(), "1 writes undone; not undone: ")
}

// TestUpdateCancelled ends the context between two writes.
func TestUpdateCancelled(t *testing.T) {
	f := newFake(t, 2)
	before := f.state()
	changes, err := planOf(f, Resources{PIDs: PIDs{Max: Count(5)}, CPU: CPU{Weight: WeightOf(7), Max: CPUs(1)}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	f.fault = func(n int, _ string) (error, bool) {
		if n == 1 {
			cancel()
		}
		return nil, true
	}
	err = apply(ctx, changes)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, f.state())
}

// TestUndoNeverKills undoes a limit that was raised and has been used since.
func TestUndoNeverKills(t *testing.T) {
	const mib = 1 << 20
	f := newFake(t, 2)
	f.files[maxFile] = "8388608"
	changes, err := planOf(f, Resources{Memory: Memory{Max: Bytes(32 * mib), Low: Bytes(4 * mib)}})
	require.NoError(t, err)
	f.fault = func(_ int, file string) (error, bool) {
		if file == "memory.low" {
			f.anon = 20 * mib
			return errInjected, false
		}
		return nil, true
	}
	err = apply(t.Context(), changes)
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.ErrorIs(t, u.Undo, ErrInUse)
	require.Equal(t, "33554432", f.files[maxFile])
}

// TestPlanLargePages: what is written is a whole number of pages of 64 KiB, and
// what the kernel has rounded already is not written again (fault 44).
func TestPlanLargePages(t *testing.T) {
	const page, mib = 64 << 10, 1 << 20
	for version, file := range map[int]string{1: limitV1, 2: maxFile} {
		f := newFake(t, version)
		want := Resources{Memory: Memory{Max: Bytes(64*mib + page - 1)}}
		for _, writes := range []int{1, 0} {
			changes, err := plan(page, []group{{f, "fake", &want}}, UpdateConfig{})
			require.NoError(t, err)
			require.Len(t, changes, writes)
			require.NoError(t, apply(t.Context(), changes))
			require.Equal(t, "67108864", f.files[file])
		}
		_, err := plan(page, []group{{f, "fake", &Resources{Memory: Memory{Max: Bytes(page - 1)}}}}, UpdateConfig{})
		require.ErrorIs(t, err, ErrInvalid)
	}
}

// TestPlanRefuses is about what only a look at the group shows to be wrong.
func TestPlanRefuses(t *testing.T) {
	bare := func(version int, without ...string) *fakeTree {
		f := newFake(t, version)
		for _, name := range without {
			delete(f.files, name)
		}
		return f
	}
	idle := newFake(t, 2)
	idle.files["cpu.idle"], idle.files["cpu.weight"] = "1", "0"
	burst := newFake(t, 1)
	burst.files["cpu.cfs_burst_us"] = "50000"
	noCost := bare(2, bfqWeightFile)
	noCost.top = map[string]string{"io.cost.qos": "8:0 enable=0 ctrl=auto"}
	swapLimited := newFake(t, 1)
	swapLimited.files[limitV1], swapLimited.files[memswV1] = "1048576", "2097152"

	for name, tc := range map[string]struct {
		tree *fakeTree
		want Resources
		is   error
		says string
	}{
		"v1 high":          {newFake(t, 1), Resources{Memory: Memory{High: Max()}}, ErrNotSupported, "cgroup v1 has no such file"},
		"v1 partition":     {newFake(t, 1), Resources{CPUSet: CPUSet{Partition: PartitionRoot}}, ErrNotSupported, "cgroup v1"},
		"v1 latency":       {newFake(t, 1), Resources{IO: IO{Devices: []IODevice{{Device: Device{8, 0}, Latency: DurationOf(0)}}}}, ErrNotSupported, "cgroup v1"},
		"no burst":         {bare(2, "cpu.max.burst"), Resources{CPU: CPU{Burst: DurationOf(0)}}, ErrNotSupported, "Linux 5.14"},
		"no idle":          {bare(1, "cpu.idle"), Resources{CPU: CPU{Idle: On}}, ErrNotSupported, "Linux 5.15"},
		"no memsw":         {bare(1, memswV1), Resources{Memory: Memory{Max: Bytes(1 << 20), Swap: Bytes(0)}}, ErrNotSupported, "swapaccount"},
		"no huge pages":    {newFake(t, 2), Resources{HugeTLB: []HugeTLB{{PageSize: 1 << 30, Max: Max()}}}, ErrNotSupported, "hugetlb.1GB.max"},
		"no misc resource": {newFake(t, 2), Resources{Misc: []Misc{{Name: "tdx", Max: Max()}}}, ErrNotSupported, "no such resource"},
		"no bfq on v1":     {bare(1, bfqWeightV1), Resources{IO: IO{Weight: WeightOf(1)}}, ErrNotSupported, "bfq"},
		"no weights":       {bare(2, bfqWeightFile, costWeightFile), Resources{IO: IO{Weight: WeightOf(1)}}, ErrNotSupported, "neither"},
		"weight unheeded":  {noCost, Resources{IO: IO{Weight: WeightOf(1)}}, ErrNotSupported, "io.cost is not enabled"},
		"idle weight":      {idle, Resources{CPU: CPU{Weight: WeightOf(5)}}, ErrInvalid, "Switch Idle off"},
		"quota < burst":    {burst, Resources{CPU: CPU{Max: CPUs(0.1)}}, ErrInvalid, "lower Burst"},
		"burst > quota":    {burst, Resources{CPU: CPU{Burst: DurationOf(time.Second), Max: CPUs(2)}}, ErrInvalid, "above the quota"},
		"part of a page":   {newFake(t, 2), Resources{Memory: Memory{Max: Bytes(4095)}}, ErrInvalid, "page of 4096"},
		"v1 swap alone":    {newFake(t, 1), Resources{Memory: Memory{Swap: Bytes(0)}}, ErrInvalid, "has to be a number"},
		"v1 max, swap set": {swapLimited, Resources{Memory: Memory{Max: Max()}}, ErrInvalid, "set Swap to max"},
	} {
		t.Run(name, func(t *testing.T) {
			changes, err := planOf(tc.tree, tc.want)
			require.ErrorIs(t, err, tc.is)
			require.ErrorContains(t, err, tc.says)
			require.Empty(t, changes)
			require.False(t, errors.Is(err, ErrInvalid) && errors.Is(err, ErrNotSupported))
		})
	}
}
