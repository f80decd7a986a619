// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cgroupfsFaults are what a cgroupfs does to its users, and what has to come of
// it. Each runs on a fake of every layout.
var cgroupfsFaults = []struct {
	name string
	run  func(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup)
}{
	{"a write in the middle fails", halfDone},
	{"a limit below what is in use", belowUsage},
	{"memory and swap in the wrong order", onFake(memoryAndSwap)},
	{"a child has more than its parent", childAboveParent},
	{"no CPUs", emptyCPUSet},
	{"removed underneath", removedUnderneath},
	{"a stranger takes a value back", takenBack},
	{"read-only", readOnly},
	{"no group can be made", noMkdir},
	{"a group cannot be opened", noDescriptors},
	{"a group of the name is there", alreadyThere},
	{"processes above groups", internalProcesses},
	{"threads below", threadedAbove},
	{"another's files", notOurs},
	{"the tree is full", treeLimits},
	{"the kernel makes something else of it", coerced},
	{"interrupted, short and late", shortWrites},
	{"read fails in the middle", readFails},
	{"blocked", blocked},
	{"killed by its limit at once", oomAfterExit},
	{"devices that change under an update", onFake(devicesRepeated)},
	{"no device programs", noPrograms},
	{"no pressure", noPressure},
	{"a process that does not die", stuckProcess},
	{"frozen from outside", frozenOutside},
}

// TestFaults has what only a fake can do when it is asked: a tree that is read-only or
// another's (fault 39), calls that are interrupted or cut short (fault 44), a kernel
// without device programs (fault 46) and without pressure (fault 47).
func TestFaults(t *testing.T) {
	for _, f := range cgroupfsFaults {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) { onEach(t, f.run) })
	}
}

func memoryAndSwap(t *testing.T, m machine, c *cgroups.Cgroup) {
	for _, mem := range []cgroups.Memory{
		{Max: cgroups.Bytes(64 * mib), Swap: cgroups.Bytes(16 * mib)},
		{Max: cgroups.Bytes(256 * mib), Swap: cgroups.Bytes(16 * mib)},
		{Max: cgroups.Bytes(32 * mib), Swap: cgroups.Bytes(0)},
		{Max: cgroups.Bytes(128 * mib)},
		{Max: cgroups.Bytes(64 * mib), Swap: cgroups.Bytes(128 * mib)},
		{Max: cgroups.Max(), Swap: cgroups.Max()},
		{Max: cgroups.Bytes(8 * mib), Swap: cgroups.Bytes(8 * mib)},
	} {
		update(t, m, c, cgroups.Resources{Memory: mem})
		r, err := c.Resources()
		require.NoError(t, err)
		assert.Equal(t, mem.Max, r.Memory.Max)
		if !mem.Swap.IsZero() {
			assert.Equal(t, mem.Swap, r.Memory.Swap)
		}
	}
}

// childAboveParent: v1 refuses and says why; v2 takes it, and the parent's counts.
func childAboveParent(t *testing.T, fake *cgroupstest.Fake, _ *cgroups.Cgroup) {
	parent, err := fake.Root().Create("parent", 0)
	require.NoError(t, err)
	defer parent.Close()
	child, err := fake.Root().Create("parent/child", 0)
	require.NoError(t, err)
	defer child.Close()
	update(t, fake, parent, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.2)}})
	before := fake.Tree()
	_, err = child.Update(t.Context(), cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.33)}, PIDs: cgroups.PIDs{Max: cgroups.Count(9)}})
	if parent.Mode() == cgroups.Unified {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, "parent's")
	require.Equal(t, before, fake.Tree())
}

func removedUnderneath(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	n, err := c.OpenEvents(cgroups.EventPIDs)
	require.NoError(t, err)
	defer n.Close()
	var s cgroups.Stats
	require.NoError(t, c.Stat(&s))
	update(t, fake, c, limits())
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	fake.Exit(pids[0])
	require.NoError(t, fake.Rmdir("web"))
	require.NoError(t, fake.Mkdir("web"), "another one of the same name")
	before := fake.Tree()

	require.ErrorIs(t, c.Stat(&s), cgroups.ErrGone)
	_, err = c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(3)}})
	require.ErrorIs(t, err, cgroups.ErrGone)
	_, err = c.Resources()
	require.ErrorIs(t, err, cgroups.ErrGone)
	require.ErrorIs(t, n.Ack(), cgroups.ErrGone)
	require.NoError(t, c.Kill(t.Context()))
	require.NoError(t, c.Remove(t.Context()))
	assert.Equal(t, before, fake.Tree(), "the new group is not ours")
}

// takenBack: a foreign write between our write and the reading back is noticed.
func takenBack(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	x := fake.Block("pids.max").At(1)
	done := make(chan error)
	go func() {
		_, err := c.Update(context.Background(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}})
		done <- err
	}()
	<-x.Reached()
	require.NoError(t, fake.Write("web", "pids.max", "60"))
	x.Release()
	require.NoError(t, <-done) // ours came last
	assert.Equal(t, "50\n", fake.Read("web", "pids.max"))
	p, err := c.Plan(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}})
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	require.NoError(t, fake.Write("web", "pids.max", "60"))
	p, err = c.Plan(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}})
	require.NoError(t, err)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, "60", p.Changes[0].Old)
}

func readOnly(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	fake.Fail("*", syscall.EROFS)
	fake.FailMkdir("*", syscall.EROFS)
	before := fake.Tree()
	_, err := c.Update(t.Context(), limits())
	require.ErrorIs(t, err, syscall.EROFS)
	var file *cgroups.FileError
	require.ErrorAs(t, err, &file)
	assert.NotEmpty(t, file.Data)
	_, err = fake.Root().Create("other", 0)
	require.ErrorIs(t, err, syscall.EROFS)
	require.Equal(t, before, fake.Tree())
	var s cgroups.Stats
	require.NoError(t, c.Stat(&s), "measuring needs no writing")
}

// noMkdir: what was made in other trees goes again.
func noMkdir(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	before := fake.Tree()
	trees := 1
	if c.Mode() != cgroups.Unified {
		trees = 5
	}
	fake.FailMkdir("other", syscall.ENOMEM).At(trees)
	_, err := fake.Root().Create("other", 0)
	require.ErrorIs(t, err, syscall.ENOMEM)
	require.Equal(t, before, fake.Tree())
}

// noDescriptors: what was made and cannot be opened goes again, in its tree and in the
// others.
func noDescriptors(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	before := fake.Tree()
	trees := 1
	if c.Mode() != cgroups.Unified {
		trees = 5
	}
	full := fake.FailOpen("other", syscall.EMFILE).At(trees)
	_, err := fake.Root().Create("other", 0)
	require.ErrorIs(t, err, syscall.EMFILE)
	require.Equal(t, before, fake.Tree())
	full.Lift()
	other, err := fake.Root().Create("other", 0)
	require.NoError(t, err, "the name is not taken")
	require.NoError(t, other.Remove(t.Context()))
	require.NoError(t, other.Close())
}

func alreadyThere(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	before := fake.Tree()
	_, err := fake.Root().Create("web", 0)
	require.ErrorIs(t, err, syscall.EEXIST)
	require.Equal(t, before, fake.Tree())
	again, err := fake.Root().Open("web")
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Remove(t.Context()), "what is not ours is not removed")
	require.Equal(t, before, fake.Tree())
}

// threadedAbove: v2 has no memory limits below a group of threads, and what was
// made on the way to that answer goes again.
func threadedAbove(t *testing.T, fake *cgroupstest.Fake, _ *cgroups.Cgroup) {
	require.NoError(t, fake.Mkdir("domain"))
	require.NoError(t, fake.Mkdir("domain/threads"))
	if fake.Root().Mode() != cgroups.Unified {
		return
	}
	require.NoError(t, fake.Write("domain/threads", "cgroup.type", "threaded"))
	before := fake.Tree()
	_, err := fake.Root().Create("domain/threads/web", cgroups.ControllersOf(cgroups.ControllerMemory))
	require.Error(t, err)
	require.Equal(t, before, fake.Tree())
	threads, err := fake.Root().Open("domain/threads")
	require.NoError(t, err)
	defer threads.Close()
	_, err = threads.Procs(nil)
	require.ErrorIs(t, err, cgroups.ErrNotSupported)
}

// notOurs: at the top of a delegation the kernel lets only its owner write
// (nsdelegate, or another user's files).
func notOurs(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	before := fake.Tree()
	for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
		fake.Fail("web/"+file, syscall.EPERM)
	}
	_, err := c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}, Memory: cgroups.Memory{Max: cgroups.Bytes(64 * mib)}})
	require.ErrorIs(t, err, fs.ErrPermission)
	var file *cgroups.FileError
	require.ErrorAs(t, err, &file)
	assert.Contains(t, file.Path, "web/memory.")
	require.Equal(t, before, fake.Tree())
	if c.Mode() != cgroups.Unified {
		return
	}
	require.NoError(t, fake.Mkdir("parent"))
	fake.Fail("parent/cgroup.subtree_control", syscall.EPERM)
	before = fake.Tree()
	_, err = fake.Root().Create("parent/child", 0)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.Equal(t, before, fake.Tree())
}

func treeLimits(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	parent, err := fake.Root().Create("parent", 0)
	require.NoError(t, err)
	defer parent.Close()
	require.NoError(t, fake.Write("parent", "cgroup.max.descendants", "0"))
	before := fake.Tree()
	_, err = fake.Root().Create("parent/child", 0)
	var full *cgroups.TreeLimitError
	require.ErrorAs(t, err, &full)
	require.ErrorIs(t, err, syscall.EAGAIN)
	assert.Contains(t, full.Path, "parent/cgroup.max.descendants")
	require.Equal(t, before, fake.Tree())
}

// coerced: what no kernel keeps as it is asked for is refused before, or written
// as it will be kept.
func coerced(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	for _, r := range []cgroups.Resources{
		{CPU: cgroups.CPU{Weight: cgroups.WeightOf(0)}},
		{CPU: cgroups.CPU{Weight: cgroups.WeightOf(10001)}},
		{CPU: cgroups.CPU{Max: cgroups.Quota(999*time.Microsecond, 100*time.Millisecond)}},
		{CPU: cgroups.CPU{Max: cgroups.CPUs(-1)}},
		{CPU: cgroups.CPU{Max: cgroups.CPUs(1e300)}},
		{Memory: cgroups.Memory{Max: cgroups.Bytes(4095)}},
		{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 63)}},
		{PIDs: cgroups.PIDs{Max: cgroups.Count(1 << 31)}},
	} {
		refused(t, fake, c, r, cgroups.ErrInvalid)
	}
	// A machine that keeps something else all the same.
	x := fake.Short("pids.max", 1).At(1)
	before := fake.Tree()
	_, err := c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(77)}})
	require.Error(t, err)
	require.Equal(t, 1, x.Struck())
	require.Equal(t, before, fake.Tree())
}

func shortWrites(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	before := fake.Tree()
	x := fake.Short("pids.max", 2).At(1)
	_, err := c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(12345)}})
	require.ErrorIs(t, err, io.ErrShortWrite)
	require.Equal(t, 1, x.Struck())
	require.Equal(t, before, fake.Tree(), "12 is not what was asked for")
	// The answer of a write that worked is lost.
	fake.Fail("pids.max", syscall.EINTR).TakesEffect().At(1)
	_, err = c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(12345)}})
	require.ErrorIs(t, err, syscall.EINTR)
	require.Equal(t, before, fake.Tree())
}

func readFails(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	p, err := c.Plan(limits())
	require.NoError(t, err)
	require.NotEmpty(t, p.Changes)
	before := fake.Tree()
	// Planning fails before anything is written.
	x := fake.FailRead("pids.max", syscall.EIO).At(1)
	_, err = c.Update(t.Context(), limits())
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, before, fake.Tree())
	x.Lift()
	// The group lives, so a file that is gone is not the group.
	fake.FailRead("memory.current", syscall.ENODEV)
	fake.FailRead("memory.usage_in_bytes", syscall.ENODEV)
	var s cgroups.Stats
	err = c.Stat(&s)
	require.ErrorIs(t, err, syscall.ENODEV)
	require.NotErrorIs(t, err, cgroups.ErrGone)
}

// blocked: a write that blocks holds back the group's other updates and nothing
// else.
func blocked(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	other := group(t, fake, "other")
	x := fake.Block("web/pids.max")
	done := make(chan error)
	go func() {
		_, err := c.Update(context.Background(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}})
		done <- err
	}()
	<-x.Reached()
	_, err := other.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(6)}})
	require.NoError(t, err)
	var s cgroups.Stats
	require.NoError(t, c.Stat(&s))
	require.NoError(t, c.Freeze(t.Context()))
	require.NoError(t, c.Thaw(t.Context()))
	x.Release()
	require.NoError(t, <-done)
}

// noPrograms is a kernel or a user without BPF, on v2.
func noPrograms(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	const file = "(bpf cgroup_device)"
	want := cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}, Devices: cgroups.AllowDevices(rule("c 1:3 r"))}
	if c.Mode() != cgroups.Unified {
		update(t, fake, c, want)
		return
	}
	before := fake.Tree()
	x := fake.Fail(file, syscall.EPERM)
	_, err := c.Update(t.Context(), want)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "CAP_BPF")
	require.Equal(t, before, fake.Tree())
	x.Lift()
	for _, no := range []error{syscall.EINVAL, syscall.ENOSYS} {
		x := fake.FailRead(file, no)
		refused(t, fake, c, want, cgroups.ErrNotSupported)
		x.Lift()
	}
	update(t, fake, c, want)
}

func stuckProcess(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	fake.Stick(pids[0], true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = c.Kill(ctx)
	var left *cgroups.RemainingError
	require.ErrorAs(t, err, &left)
	require.Len(t, left.Processes, 1)
	assert.Equal(t, cgroups.Process{PID: pids[0], Name: "work", State: "D"}, left.Processes[0])
	fake.Stick(pids[0], false)
	require.NoError(t, c.Kill(t.Context()))
	require.NoError(t, c.Remove(t.Context()))
}

func frozenOutside(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	require.NoError(t, fake.Write("web", "cgroup.freeze", "1"))
	update(t, fake, c, limits())
	frozen, err := c.Frozen()
	require.NoError(t, err)
	assert.True(t, frozen, "an update thaws nobody")
	require.NoError(t, c.Kill(t.Context()))
}

// TestFaultControllers is about machines that lack something (fault 40).
func TestFaultControllers(t *testing.T) {
	for name, tc := range map[string]struct {
		layout cgroupstest.Layout
		on     cgroupstest.Machine
		want   cgroups.Resources
	}{
		"v2 without hugetlb": {cgroupstest.V2, cgroupstest.Machine{Without: []string{"hugetlb"}}, cgroups.Resources{HugeTLB: []cgroups.HugeTLB{{PageSize: 2 * mib, Max: cgroups.Max()}}}},
		"v1 without memory":  {cgroupstest.V1, cgroupstest.Machine{Without: []string{"memory"}}, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Max()}}},
		"before cpu.idle":    {cgroupstest.V2, cgroupstest.Machine{Kernel: cgroupstest.Release{Major: 5, Minor: 10}}, cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}}},
		"before burst":       {cgroupstest.V1, cgroupstest.Machine{Kernel: cgroupstest.Release{Major: 5, Minor: 10}}, cgroups.Resources{CPU: cgroups.CPU{Burst: cgroups.DurationOf(0)}}},
		"no device programs": {cgroupstest.V2, cgroupstest.Machine{Without: []string{"(bpf cgroup_device)"}}, cgroups.Resources{Devices: cgroups.AllowDevices()}},
		"swap not accounted": {cgroupstest.V1, cgroupstest.Machine{Without: []string{"memory.memsw.limit_in_bytes"}}, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(mib), Swap: cgroups.Bytes(0)}}},
	} {
		t.Run(name, func(t *testing.T) {
			fake := cgroupstest.NewOn(t, tc.layout, tc.on)
			c := group(t, fake, "web")
			tc.want.PIDs.Max = cgroups.Count(5)
			refused(t, fake, c, tc.want, cgroups.ErrNotSupported)
			update(t, fake, c, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}})
		})
	}
}

// TestFaultManyCPUs is about a machine with more CPUs than fit into a page, and several
// nodes of memory (fault 49).
func TestFaultManyCPUs(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			fake := cgroupstest.NewOn(t, l.Layout, cgroupstest.Machine{CPUs: 2048, Mems: 8})
			c := group(t, fake, "web")
			var odd []int
			for i := 1; i < 400; i += 2 {
				odd = append(odd, 1600+i)
			}
			update(t, fake, c, cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(odd...), Mems: cgroups.SetOf(0, 7)}})
			r, err := c.Resources()
			require.NoError(t, err)
			assert.Equal(t, cgroups.SetOf(odd...), r.CPUSet.CPUs)
			assert.Equal(t, cgroups.SetOf(0, 7), r.CPUSet.Mems)
		})
	}
}

// TestFaultNoUnifiedTree is v1 without CAP_SYS_ADMIN: v1's freezer has to do.
func TestFaultNoUnifiedTree(t *testing.T) {
	fake := cgroupstest.NewOn(t, cgroupstest.V1, cgroupstest.Machine{NoUnified: true})
	require.Equal(t, cgroups.Legacy, fake.Root().Mode())
	c := group(t, fake, "web")
	update(t, fake, c, limits())
	require.NoError(t, c.Freeze(t.Context()))
	frozen, err := c.Frozen()
	require.NoError(t, err)
	require.True(t, frozen)
	var p cgroups.Pressure
	require.ErrorIs(t, c.Pressure(cgroups.PressureCPU, &p), cgroups.ErrNotSupported)
	require.NoError(t, c.Kill(t.Context()), "SIGKILL waits until the group thaws")
	require.NoError(t, c.Remove(t.Context()))
	assert.NotContains(t, fake.Tree(), "web")
}
