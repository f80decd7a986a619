// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// knobState is the text of every file of the group that can be written to and
// read, by path.
func knobState(t *testing.T, c *Cgroup) map[string]string {
	t.Helper()
	state := make(map[string]string)
	for _, n := range c.places() {
		dir := fmt.Sprintf("/proc/self/fd/%d", n.dir.FD()) // one tree may have no path
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || e.IsDir() || info.Mode()&0o600 != 0o600 || strings.HasPrefix(e.Name(), "cgroup.") {
				continue
			}
			if slices.ContainsFunc([]string{"pressure", "reclaim", "usage", "kmem", "tasks", ".peak", "failcnt", "max_usage"},
				func(s string) bool { return strings.Contains(e.Name(), s) }) {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
				state[filepath.Join(dir, e.Name())] = string(b)
			}
		}
	}
	return state
}

// supported drops knobs that this kernel lacks, and says which.
func supported(t *testing.T, c *Cgroup, r Resources) Resources {
	t.Helper()
	var out Resources
	for _, one := range split(r) {
		if _, err := c.Plan(one); errors.Is(err, ErrNotSupported) {
			t.Logf("%v", err)
			continue
		}
		out = out.Merge(one)
	}
	return out
}

// split is the resources with one knob each.
func split(r Resources) (out []Resources) {
	m := r.Memory
	out = append(out,
		Resources{CPU: CPU{Weight: r.CPU.Weight}}, Resources{CPU: CPU{Max: r.CPU.Max}},
		Resources{CPU: CPU{Idle: r.CPU.Idle}}, Resources{CPU: CPU{Burst: r.CPU.Burst}},
		Resources{CPUSet: CPUSet{CPUs: r.CPUSet.CPUs}}, Resources{CPUSet: CPUSet{Mems: r.CPUSet.Mems}},
		Resources{CPUSet: CPUSet{Partition: r.CPUSet.Partition}},
		Resources{Memory: Memory{Max: m.Max}}, Resources{Memory: Memory{High: m.High}},
		Resources{Memory: Memory{Low: m.Low}}, Resources{Memory: Memory{Min: m.Min}},
		Resources{Memory: Memory{Swap: m.Swap}}, Resources{Memory: Memory{SwapHigh: m.SwapHigh}},
		Resources{Memory: Memory{OOMGroup: m.OOMGroup}},
		Resources{IO: IO{Weight: r.IO.Weight}}, Resources{PIDs: r.PIDs}, Resources{Devices: r.Devices},
	)
	for _, h := range r.HugeTLB {
		out = append(out, Resources{HugeTLB: []HugeTLB{h}})
	}
	for _, d := range r.IO.Devices {
		out = append(out,
			Resources{IO: IO{Devices: []IODevice{{Device: d.Device, Weight: d.Weight}}}},
			Resources{IO: IO{Devices: []IODevice{{Device: d.Device, Latency: d.Latency}}}})
		d.Weight, d.Latency = Weight{}, Duration{}
		out = append(out, Resources{IO: IO{Devices: []IODevice{d}}})
	}
	return out
}

// TestUpdateTransitions goes through settings in an order that makes every pair
// of coupled knobs move both ways. After each, what holds is what was asked for,
// once more changes nothing, and what is read back changes nothing either (faults
// 34 and 43).
func TestUpdateTransitions(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	c := newGroup(t, openRoot(t), 0)
	const mib = 1 << 20
	for i, r := range []Resources{
		{CPU: CPU{Weight: WeightOf(500), Max: CPUs(0.5), Burst: DurationOf(50 * time.Millisecond)}},
		{CPU: CPU{Max: CPUs(0.2), Burst: DurationOf(20 * time.Millisecond)}},
		{CPU: CPU{Max: Quota(400*time.Millisecond, 400*time.Millisecond), Burst: DurationOf(400 * time.Millisecond)}},
		{CPU: CPU{Max: Quota(10*time.Millisecond, 10*time.Millisecond), Burst: DurationOf(0)}},
		{CPU: CPU{Idle: On, Max: NoQuota()}},
		{CPU: CPU{Idle: Off, Weight: WeightOf(1), Max: DefaultBandwidth()}},
		{CPU: CPU{Weight: WeightOf(10000)}},
		{CPUSet: CPUSet{CPUs: SetOf(0), Mems: SetOf(0)}},
		{CPUSet: CPUSet{CPUs: DefaultSet(), Mems: DefaultSet()}},
		{Memory: Memory{Max: Bytes(64 * mib), Swap: Bytes(8 * mib), High: Bytes(48 * mib), Low: Bytes(32 * mib), Min: Bytes(16 * mib), SwapHigh: Bytes(4 * mib), OOMGroup: On}},
		{Memory: Memory{Max: Bytes(256 * mib), Swap: Bytes(0), High: Bytes(200 * mib), Low: Bytes(100 * mib), Min: Bytes(100 * mib), SwapHigh: Max(), OOMGroup: Off}},
		{Memory: Memory{Max: Bytes(32 * mib), Swap: Max(), High: Bytes(16 * mib), Low: Bytes(8 * mib), Min: Bytes(0)}},
		{Memory: Memory{Max: Max(), Swap: Default(), High: Default(), Low: Default(), Min: Default()}},
		{PIDs: PIDs{Max: Count(10)}, HugeTLB: []HugeTLB{{PageSize: 2 * mib, Max: Bytes(4 * mib), Reserved: Bytes(2 * mib)}}},
		{PIDs: PIDs{Max: Max()}, HugeTLB: []HugeTLB{{PageSize: 2 * mib, Max: Bytes(0), Reserved: Max()}}},
		{IO: IO{Weight: WeightOf(1000)}},
		{IO: IO{Weight: DefaultWeight()}},
		{Devices: DefaultDevices()},
		{Devices: AllowDevices(DeviceRule{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead})},
		{Devices: AllowDevices()},
		{Devices: AllDevices()},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r = supported(t, c, r)
			p, err := c.Plan(r)
			require.NoError(t, err)
			t.Logf("%s", p)
			res, err := c.Update(t.Context(), r)
			require.NoError(t, err)
			require.Len(t, res.Changes, len(p.Changes))
			for _, ch := range res.Changes {
				if !ch.passing {
					assert.Equal(t, strings.TrimSpace(ch.want), ch.Now, ch.File)
				}
			}

			again, err := c.Update(t.Context(), r)
			require.NoError(t, err)
			require.Empty(t, again.Changes)
			now, err := c.Resources()
			require.NoError(t, err)
			p, err = c.Plan(now)
			require.NoError(t, err)
			require.Empty(t, p.Changes, "what was read is not what is")
		})
	}
}

// faultyTree is a group's files, of which one write fails.
type faultyTree struct {
	*groupTree
	n, at int
	count *int // instead of n, for trees that count together
	takes bool // the write does its work all the same
}

func (f *faultyTree) write(ctl Controller, file, data string) error {
	return f.faulty(func() error { return f.groupTree.write(ctl, file, data) })
}

func (f *faultyTree) writeSlow(ctx context.Context, ctl Controller, file, data string, flag int) error {
	return f.faulty(func() error { return f.groupTree.writeSlow(ctx, ctl, file, data, flag) })
}

func (f *faultyTree) faulty(write func() error) error {
	count := f.count
	if count == nil {
		count = &f.n
	}
	*count++
	if *count-1 != f.at {
		return write()
	}
	if f.takes {
		if err := write(); err != nil {
			return err
		}
	}
	return errInjected
}

// TestUpdateFaults lets each write of updates of many knobs fail on the real
// files and compares all of them with what they held before (fault 32).
func TestUpdateFaults(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	c := newGroup(t, openRoot(t), 0)
	const mib = 1 << 20
	disk := diskOf(t)
	faults := 0
	for _, r := range []Resources{
		{
			CPU: CPU{Weight: WeightOf(500), Max: CPUs(0.5), Burst: DurationOf(50 * time.Millisecond)}, PIDs: PIDs{Max: Count(100)},
			Memory: Memory{Max: Bytes(64 * mib), Swap: Bytes(8 * mib), High: Bytes(48 * mib), Low: Bytes(32 * mib), OOMGroup: On},
			IO:     IO{Devices: []IODevice{{Device: disk, ReadBytes: Bytes(mib), WriteOps: Count(100)}}},
		},
		{
			CPU:    CPU{Idle: On, Max: Quota(200*time.Millisecond, 400*time.Millisecond), Burst: DurationOf(0)},
			CPUSet: CPUSet{CPUs: SetOf(0)}, Devices: DefaultDevices(),
			Memory: Memory{Max: Bytes(256 * mib), Swap: Max(), High: Max(), Low: Default(), OOMGroup: Off},
			IO:     IO{Devices: []IODevice{{Device: disk, ReadBytes: Max(), WriteBytes: Bytes(mib)}}},
		},
		{
			CPU:     CPU{Idle: Off, Weight: WeightOf(100), Max: NoQuota()},
			CPUSet:  CPUSet{CPUs: DefaultSet()},
			Devices: AllowDevices(DeviceRule{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead | DeviceWrite}),
			Memory:  Memory{Max: Bytes(32 * mib), Swap: Bytes(mib)},
			IO:      IO{Weight: WeightOf(500), Devices: []IODevice{{Device: disk, WriteOps: Default()}}},
		},
		{Devices: AllDevices(), Memory: Memory{Max: Max(), Swap: Max()}, PIDs: PIDs{Max: Max()}},
	} {
		if disk.IsZero() {
			r.IO.Devices = nil
		}
		r = supported(t, c, r)
		p, err := c.Plan(r)
		require.NoError(t, err)
		for i := range p.Changes {
			if testutil.Emulated() && i%3 != 0 {
				continue
			}
			for _, takes := range []bool{false, true} {
				before := knobState(t, c)
				tree := &faultyTree{groupTree: filesOf(c), at: i, takes: takes}
				tree.update = true
				changes, err := planOf(tree, r)
				require.NoError(t, err)
				err = apply(t.Context(), changes)
				require.ErrorIs(t, err, errInjected)
				var u *UpdateError
				require.ErrorAs(t, err, &u)
				require.NoError(t, u.Undo, "%s", p)
				require.Equal(t, before, knobState(t, c), "write %d of\n%s", i, p)
				again, err := planOf(tree, r)
				require.NoError(t, err)
				require.Len(t, again, len(p.Changes))
				tree.close()
				faults++
			}
		}
		_, err = c.Update(t.Context(), r)
		require.NoError(t, err)
	}
	t.Logf("%d faults", faults)
}

// diskOf is a block device that can be limited, or none.
func diskOf(t *testing.T) Device {
	t.Helper()
	for _, pattern := range []string{"/sys/block/[vsx]d*/dev", "/sys/block/nvme*/dev", "/sys/block/*/dev"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, f := range found {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			d, err := ParseDevice(strings.TrimSpace(string(b)))
			require.NoError(t, err)
			return d
		}
	}
	return Device{}
}

// TestUpdateRefused has the kernel itself refuse a write in the middle.
func TestUpdateRefused(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := openRoot(t)
	requireController(t, root, ControllerIO)
	c := newGroup(t, root, 0)
	before := knobState(t, c)
	r := Resources{
		PIDs: PIDs{Max: Count(7)}, CPU: CPU{Weight: WeightOf(3), Max: CPUs(2)}, Memory: Memory{Max: Bytes(1 << 26)},
		IO: IO{Devices: []IODevice{{Device: Device{4000, 1}, ReadBytes: Bytes(1 << 20)}}},
	}
	_, err := c.Update(t.Context(), supported(t, c, r))
	var u *UpdateError
	require.ErrorAs(t, err, &u)
	require.NoError(t, u.Undo)
	require.ErrorIs(t, err, syscall.ENODEV)
	require.NotErrorIs(t, err, ErrGone)
	require.Equal(t, "io.max", u.Failed.Knob)
	require.NotEmpty(t, u.Undone)
	require.Equal(t, before, knobState(t, c))
	t.Log(err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Update(ctx, Resources{PIDs: PIDs{Max: Count(7)}})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, knobState(t, c))
}

// TestUpdateGone updates a group that somebody else removed (fault 37).
func TestUpdateGone(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	c := newGroup(t, openRoot(t), 0)
	_, err := c.Update(t.Context(), Resources{PIDs: PIDs{Max: Count(7)}})
	require.NoError(t, err)
	for _, n := range c.places() {
		require.NoError(t, syscall.Rmdir(fmt.Sprintf("/proc/self/fd/%d/%s", n.in.dir.FD(), c.Path())))
	}
	for _, r := range []Resources{{PIDs: PIDs{Max: Count(7)}}, {CPU: CPU{Weight: WeightOf(3)}}, {Devices: DefaultDevices()}} {
		_, err = c.Update(t.Context(), r)
		require.ErrorIs(t, err, ErrGone, "%+v", r)
		_, err = c.Plan(r)
		require.ErrorIs(t, err, ErrGone, "%+v", r)
	}
	_, err = c.Resources()
	require.ErrorIs(t, err, ErrGone)
}
