// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// regressions are what went wrong elsewhere, by the threads that told of it:
// REPOSITORY-NUMBER. Each runs on a fake of every layout.
var regressions = []struct {
	threads string // with spaces
	what    string
	run     func(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup)
}{
	{"runc-2456 runc-2463 runc-2464 runc-4225 runc-4227", "an update of one knob resets another", onFake(partialUpdate)},
	{"runc-4210", "an update clears the burst", onFake(burstStays)},
	{"koordinator-2778", "a quota below the burst is refused by the kernel", onFake(burstAboveQuota)},
	{"koordinator-2732", "an idle group takes no weight", onFake(idleWeight)},
	{"koordinator-3217 koordinator-1467", "what can never work is tried again and again", refusedForGood},
	{"runc-2410 runc-4357", "a value that is not there becomes 0", onFake(absentValues)},
	{"k8s-131216 runc-4772 crun-1721 oc-cgroups-20", "weights of v1 and v2 that do not correspond", sharesAndWeight},
	{"nomad-23965 nomad-23405 rke2-4849 koordinator-1460 runc-133", "empty cpusets", emptyCPUSet},
	{"runc-2366 runc-3401 moby-42255", "devices cannot be changed while it runs", devicesChange},
	{"runc-2876 runc-3604", "device programs pile up", onFake(devicesRepeated)},
	{"runc-1558 runc-2395", "an update fails in the middle and stays half done", halfDone},
	{"runc-4040 runc-2344 cd-cgroups-148 cd-cgroups-228 k8s-123766 common-858", "a group cannot be removed yet", removeBusy},
	{"runc-5071 containerd-12714", "an OOM kill is not seen once the process is gone", oomAfterExit},
	{"containerd-6323", "an OOM is taken for an OOM kill", oomIsNoKill},
	{"runc-2356 runc-2416 runc-2298 gvisor-8111", "processes above groups that have limits", internalProcesses},
	{"k8s-138187", "a limit cannot be cleared", onFake(clearLimits)},
	{"moby-52650 moby-52651", "limits of single devices are dropped", perDevice},
	{"k8s-138431 k8s-138903 k8s-139377 runc-3180", "somebody else's values are overwritten", foreignValues},
	{"runc-3900 buildkit-3999", "without pressure nothing works", noPressure},
	{"runc-3509 k8s-135670", "a limit below what is in use kills on v2 and does not on v1", belowUsage},
	{"runc-592 moby-25460 moby-25461 moby-39541 runc-2426 kata-1917", "memory and swap in an order that the kernel refuses", onFake(memoryAndSwap)},
	{"runc-2044 runc-3084 runc-3115 runc-3090 crun-1188 kruise-1180 koordinator-2047", "quota and period in an order that the parent refuses", onFake(quotaAgainstParent)},
	{"runc-1635 koordinator-546 koordinator-395", "cpusets of parent and child in an order that the kernel refuses", onFake(nestedCPUSets)},
	{"nomad-28521 nomad-16291 k8s-66614 k8s-127262", "CPUs of a running group cannot be exchanged", exchangedCPUs},
	{"k8s-138760 k8s-138857", "a child's limit is raised and its parent's is not", raisedTogether},
	{"runc-2753 runc-3065 runc-3080 runc-3081 runc-3082 runc-3804 crio-6122 crun-2243", "updates thaw what is frozen, or freeze it again", frozenStays},
	{"containerd-12680 containerd-10583 containerd-9770 containerd-11558", "one update that blocks holds back everything", blocked},
	{"enhancements-686", "is the cgroup reverted?", halfDone},
	{"moby-51446 moby-41233", "somebody takes a value back and nobody notices", takenBack},
	{"lxd-13192", "memory.high is dropped", onFake(highStays)},
	{"bun-39654 bun-34018 systemd-29723", "pressure triggers that the kernel misreads or does not take", triggers},
	{"runc-1884 cd-cgroups-250", "a process that is just starting a thread cannot be moved", movedWithNewThread},
	{"runc-4841", "what is rounded to pages does not read back", onFake(pages)},
}

// elsewhere are the threads of the same list that a fake alone cannot show: the
// test that is about them, or why there is none. test/arch sees to it that the
// tests are there.
var elsewhere = []struct{ threads, test, why string }{
	{"runc-3579 runc-2812 lxd-13147", "cgroups.TestShrinkThreads", "a look before the write, and then the write"},
	{"containarium-1454 enhancements-2570", "cgroups.TestShrinkGradual", "memory.high as a resting value that nobody asked for"},
	{"moby-30121 runc-1605 runc-1917 systemd-25095 systemd-38648 k8s-104289", "test/e2e.TestSystemdTakesBack", "systemd writes the files of its units"},
	{"runc-3708 runc-4568 runc-4612", "test/e2e.TestSystemdDelegated", "a daemon-reload takes device rules away"},
	{"koordinator-2306 koordinator-3176", "isolation.TestClaim", "two controllers of one embedder"},
	{"dotnet-5323 datadog-agent-43760", "cgroups/runtimespec.TestSharesAsPublished", "weights are read back by the formula by which they were made"},
	{"k8s-129152 k8s-133012 enhancements-5368", "", "the kubelet's side of smaller memory limits"},
	{"k8s-116826 k8s-132851 k8s-126033 containerd-13733", "", "races inside the kubelet and containerd"},
	{"oomd-117 systemd-36827 moby-29638", "", "removed groups that the kernel keeps for the sake of pages: its own memory, which no update changes"},
}

// TestRegressionNames wants each thread once.
func TestRegressionNames(t *testing.T) {
	seen := make(map[string]bool)
	take := func(threads string) {
		for thread := range strings.FieldsSeq(threads) {
			assert.False(t, seen[thread], "%s is there twice", thread)
			assert.Regexp(t, `^[a-z0-9-]+-[0-9]+$`, thread)
			seen[thread] = true
		}
	}
	for _, r := range regressions {
		take(r.threads)
	}
	for _, e := range elsewhere {
		take(e.threads)
		assert.NotEmpty(t, e.why)
	}
	assert.Len(t, seen, 124)
}

func TestRegression(t *testing.T) {
	for _, r := range regressions {
		for thread := range strings.FieldsSeq(r.threads) {
			t.Run(thread, func(t *testing.T) {
				t.Log(r.what)
				onEach(t, r.run)
			})
		}
	}
}

// machine is a fake, or the test machine itself.
type machine interface {
	Root() *cgroups.Root
	Writes() []string // since the last call; none are known of a real machine
	Tree() string     // what holds
}

// beside is a group next to c.
func beside(c *cgroups.Cgroup, name string) string { return path.Join(path.Dir(c.Path()), name) }

// onFake makes a test of any machine one of fakes.
func onFake(f func(*testing.T, machine, *cgroups.Cgroup)) func(*testing.T, *cgroupstest.Fake, *cgroups.Cgroup) {
	return func(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) { f(t, fake, c) }
}

// update must go through, and touch only files that end with one of the names.
func update(t *testing.T, m machine, c *cgroups.Cgroup, r cgroups.Resources, only ...string) {
	t.Helper()
	m.Writes()
	_, err := c.Update(t.Context(), r)
	require.NoError(t, err)
	if only == nil {
		return
	}
	for _, w := range m.Writes() {
		file, _, _ := strings.Cut(w, "=")
		file = file[strings.LastIndexByte(file, '/')+1:]
		require.Contains(t, only, file, "wrote %s", w)
	}
}

// refused must fail as target says and leave no trace.
func refused(t *testing.T, m machine, c *cgroups.Cgroup, r cgroups.Resources, target error) {
	t.Helper()
	m.Writes()
	before := m.Tree()
	_, err := c.Update(t.Context(), r)
	require.ErrorIs(t, err, target)
	require.Equal(t, before, m.Tree())
	require.Empty(t, m.Writes(), "refused before anything is written")
}

func limits() cgroups.Resources {
	return cgroups.Resources{
		CPU: cgroups.CPU{
			Weight: cgroups.WeightOf(500), Max: cgroups.Quota(30*time.Millisecond, 50*time.Millisecond),
			Burst: cgroups.DurationOf(10 * time.Millisecond),
		},
		CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(256 * mib), Swap: cgroups.Bytes(16 * mib)},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(100)},
	}
}

// ioLimits are of the fakes' disks.
func ioLimits() cgroups.Resources {
	return cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{
		{Device: cgroups.Device{Major: 8}, ReadBytes: cgroups.Bytes(mib), WriteOps: cgroups.Count(100)},
		{Device: cgroups.Device{Major: 8, Minor: 16}, ReadBytes: cgroups.Bytes(2 * mib)},
	}}}
}

func partialUpdate(t *testing.T, m machine, c *cgroups.Cgroup) {
	update(t, m, c, limits())
	for _, one := range []struct {
		r     cgroups.Resources
		files []string
	}{
		{cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(100)}}, []string{"cpu.weight", "cpu.shares"}},
		{cgroups.Resources{CPU: cgroups.CPU{Burst: cgroups.DurationOf(5 * time.Millisecond)}}, []string{"cpu.max.burst", "cpu.cfs_burst_us"}},
		{cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(7)}}, []string{"pids.max"}},
		{cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(1)}}, []string{"cpuset.cpus"}},
		{cgroups.Resources{Memory: cgroups.Memory{Swap: cgroups.Bytes(8 * mib)}}, []string{"memory.swap.max", "memory.memsw.limit_in_bytes"}},
		{cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}}, []string{"cpu.max", "cpu.cfs_quota_us"}},
	} {
		before, err := c.Resources()
		require.NoError(t, err)
		update(t, m, c, one.r, one.files...)
		now, err := c.Resources()
		require.NoError(t, err)
		want := before.Merge(one.r)
		if w := one.r.CPU.Weight; !w.IsZero() {
			want.CPU.Weight, now.CPU.Weight = w, w // several weights are the same shares
		}
		assert.True(t, want.Equal(now), "%+v\nis not\n%+v", now, want)
	}
	// The period stays when the quota goes.
	p, err := c.Plan(cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.Quota(50*time.Millisecond, 50*time.Millisecond)}})
	require.NoError(t, err)
	assert.Len(t, p.Changes, 1, "%s", p)
}

func burstStays(t *testing.T, m machine, c *cgroups.Cgroup) {
	update(t, m, c, limits())
	update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(2), Weight: cgroups.WeightOf(7)}})
	r, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.DurationOf(10*time.Millisecond), r.CPU.Burst)
}

func burstAboveQuota(t *testing.T, m machine, c *cgroups.Cgroup) {
	update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(2), Burst: cgroups.DurationOf(200 * time.Millisecond)}})
	down := cgroups.CPU{Max: cgroups.CPUs(1)}
	refused(t, m, c, cgroups.Resources{CPU: down}, cgroups.ErrInvalid)
	down.Burst = cgroups.DurationOf(100 * time.Millisecond)
	update(t, m, c, cgroups.Resources{CPU: down})
	update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(2), Burst: cgroups.DurationOf(200 * time.Millisecond)}})
}

func idleWeight(t *testing.T, m machine, c *cgroups.Cgroup) {
	update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(500)}})
	update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}})
	weight := cgroups.CPU{Weight: cgroups.WeightOf(200)}
	refused(t, m, c, cgroups.Resources{CPU: weight}, cgroups.ErrInvalid)
	weight.Idle = cgroups.Off
	update(t, m, c, cgroups.Resources{CPU: weight})
	r, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Off, r.CPU.Idle)
}

// refusedForGood: the error tells what trying again would not mend, and trying
// again costs no write.
func refusedForGood(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	update(t, fake, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(2), Burst: cgroups.DurationOf(200 * time.Millisecond)}})
	for range 8 {
		refused(t, fake, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(1)}}, cgroups.ErrInvalid)
		refused(t, fake, c, cgroups.Resources{HugeTLB: []cgroups.HugeTLB{{PageSize: 1 << 30, Max: cgroups.Max()}}}, cgroups.ErrNotSupported)
	}
	// What comes from the moment is another kind of error.
	fake.Fail("pids.max", syscall.EINTR).At(1)
	_, err := c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(1)}})
	var u *cgroups.UpdateError
	require.ErrorAs(t, err, &u)
	for _, permanent := range []error{cgroups.ErrInvalid, cgroups.ErrNotSupported, cgroups.ErrGone, cgroups.ErrInUse} {
		require.NotErrorIs(t, err, permanent)
	}
	update(t, fake, c, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(1)}})
	require.NoError(t, c.Kill(t.Context()))
	require.NoError(t, fake.Rmdir("web"))
	refused(t, fake, c, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(2)}}, cgroups.ErrGone)
}

func absentValues(t *testing.T, m machine, c *cgroups.Cgroup) {
	update(t, m, c, limits())
	for _, text := range []string{
		`{}`, `{"memory": {}}`, `{"memory": {"swap": ""}}`, `{"memory": {"swap": "", "max": "268435456"}}`, `{"cpu": {"weight": "", "max": "", "burst": ""}}`,
		`{"cpuset": {"cpus": ""}}`, `{"devices": null}`,
	} {
		var r cgroups.Resources
		require.NoError(t, json.Unmarshal([]byte(text), &r), "%s", text)
		update(t, m, c, r)
		require.Empty(t, m.Writes(), "%s", text)
	}
	// 0 is a value of its own.
	update(t, m, c, cgroups.Resources{Memory: cgroups.Memory{Swap: cgroups.Bytes(0)}}, "memory.swap.max", "memory.memsw.limit_in_bytes")
	r, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Bytes(0), r.Memory.Swap)
}

// sharesAndWeight: the end points and the defaults of both correspond, and the
// weight grows with the shares between them.
func sharesAndWeight(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	if c.Mode() == cgroups.Unified {
		return // nothing to convert
	}
	last := 0
	for shares, weight := range map[string]uint16{"2": 1, "1024": 100, "262144": 10000} {
		require.NoError(t, fake.Write("web", "cpu.shares", shares))
		r, err := c.Resources()
		require.NoError(t, err)
		assert.Equal(t, cgroups.WeightOf(weight), r.CPU.Weight, "%s shares", shares)
	}
	for shares := 2; shares <= 1<<18; shares = shares*5/4 + 1 {
		require.NoError(t, fake.Write("web", "cpu.shares", fmt.Sprint(shares)))
		r, err := c.Resources()
		require.NoError(t, err)
		weight, ok := r.CPU.Weight.Value()
		require.True(t, ok)
		assert.GreaterOrEqual(t, int(weight), last)
		last = int(weight)
		update(t, fake, c, cgroups.Resources{CPU: cgroups.CPU{Weight: r.CPU.Weight}})
		require.Empty(t, fake.Writes(), "%d shares are weight %d already", shares, weight)
	}
}

// emptyCPUSet: a new group can run, whatever a stranger has left above it, and
// no list of nothing is ever written.
func emptyCPUSet(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	require.NoError(t, fake.Mkdir("strange"))
	inside, err := fake.Root().Create("strange/web", 0)
	require.NoError(t, err)
	defer inside.Close()
	pid := fake.Start("strange/web")
	require.NoError(t, c.Add(t.Context(), pid))
	require.NoError(t, inside.Add(t.Context(), pid))

	_, err = cgroups.ParseSet("")
	require.ErrorIs(t, err, cgroups.ErrInvalid)
	refused(t, fake, c, cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf()}}, cgroups.ErrInvalid)
	// A CPU that is not there is the kernel's to refuse, and nothing stays of it.
	before := fake.Tree()
	_, err = c.Update(t.Context(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}, CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(4000)}})
	require.ErrorContains(t, err, "the machine may not have them")
	require.Equal(t, before, fake.Tree())
}

func rule(text string) cgroups.DeviceRule {
	r, err := cgroups.ParseDeviceRule(text)
	if err != nil {
		panic(err)
	}
	return r
}

func devicesChange(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	gpu := rule("c 195:* rw")
	update(t, fake, c, cgroups.Resources{Devices: cgroups.AllowDevices(rule("c 1:3 rwm"), gpu)})
	update(t, fake, c, cgroups.Resources{Devices: cgroups.AllowDevices(rule("c 1:3 rwm"), rule("c 1:5 r"), gpu)})
	if c.Mode() == cgroups.Unified {
		return
	}
	// What stays allowed was never denied meanwhile.
	fake.Writes()
	update(t, fake, c, cgroups.Resources{Devices: cgroups.AllowDevices(gpu)})
	for _, w := range fake.Writes() {
		assert.NotContains(t, w, "195", w)
	}
	assert.Equal(t, "c 195:* rw\n", fake.Read("web", "devices.list"))
}

// devicesRepeated: the kernel takes 64 programs a group.
func devicesRepeated(t *testing.T, m machine, c *cgroups.Cgroup) {
	for i := range 70 {
		r := cgroups.Resources{Devices: cgroups.AllowDevices(rule(fmt.Sprintf("c 1:%d rwm", i)))}
		var err error
		for end := time.Now().Add(testutil.Patience(20 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
			// Before Linux 5.11 a program counts against RLIMIT_MEMLOCK until some
			// time after it was replaced.
			if _, err = c.Update(t.Context(), r); !errors.Is(err, syscall.EPERM) || time.Now().After(end) {
				break
			}
		}
		require.NoError(t, err)
	}
	p, err := c.Plan(cgroups.Resources{Devices: cgroups.AllowDevices(rule("c 1:69 rwm"))})
	require.NoError(t, err)
	require.Empty(t, p.Changes, "the last is all that there is")
}

func halfDone(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	// The CPUs are there before: a v2 group with processes cannot lose its list.
	update(t, fake, c, cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(3)}})
	p, err := c.Plan(limits())
	require.NoError(t, err)
	before := fake.Tree()
	for i := range p.Changes {
		x := fake.Fail("*", syscall.EIO).At(i + 1)
		_, err := c.Update(t.Context(), limits())
		x.Lift()
		var u *cgroups.UpdateError
		require.ErrorAs(t, err, &u)
		require.NoError(t, u.Undo)
		require.Equal(t, before, fake.Tree(), "write %d of\n%s", i+1, p)
	}
	// A failure to undo is told, with what was to be taken back.
	fake.Fail("*", syscall.EIO).At(3, 4, 5, 6, 7, 8, 9, 10)
	_, err = c.Update(t.Context(), limits())
	var u *cgroups.UpdateError
	require.ErrorAs(t, err, &u)
	require.ErrorIs(t, u.Undo, syscall.EIO)
}

func removeBusy(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = c.Remove(ctx)
	var left *cgroups.RemainingError
	require.ErrorAs(t, err, &left)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, left.Processes, 1)
	assert.Equal(t, pids[0], left.Processes[0].PID)

	done := make(chan error)
	go func() { done <- c.Remove(context.Background()) }()
	fake.Exit(pids[0])
	require.NoError(t, <-done)
	require.NoError(t, c.Remove(t.Context()), "once more")
	assert.NotContains(t, fake.Tree(), "web")
}

func movedWithNewThread(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	pids, err := group(t, fake, "other").Procs(nil)
	require.NoError(t, err)
	news := fake.Fail("cgroup.procs", syscall.EINVAL).At(1, 2)
	require.NoError(t, c.Add(t.Context(), pids[0]))
	assert.Equal(t, 2, news.Struck())
	news.Lift()
	fake.Fail("cgroup.procs", syscall.EINVAL)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	err = c.Add(ctx, pids[0])
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, syscall.EINVAL)
	if c.Mode() == cgroups.Unified { // one is enough: it takes a quarter of a second
		require.ErrorContains(t, c.Add(t.Context(), pids[0]), "invalid argument (")
	}
}

// grow makes the group's process want more than it may have.
func grow(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) cgroups.Events {
	t.Helper()
	update(t, fake, c, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(64 * mib)}})
	fake.SetUsage("web", 100*mib)
	var e cgroups.Events
	require.NoError(t, c.Events(&e))
	return e
}

func oomAfterExit(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	e := grow(t, fake, c)
	populated, err := c.Populated()
	require.NoError(t, err)
	require.False(t, populated, "the process is gone")
	kills, ok := e.Memory.OOMKill.Value()
	assert.True(t, ok)
	assert.EqualValues(t, 1, kills)
}

func oomIsNoKill(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	fake.Exit(pids[0])
	e := grow(t, fake, c) // nobody is there to be killed
	kills, _ := e.Memory.OOMKill.Value()
	assert.Zero(t, kills)
	if c.Mode() == cgroups.Unified {
		ooms, _ := e.Memory.OOM.Value()
		assert.NotZero(t, ooms)
	}
}

func internalProcesses(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	inner, err := fake.Root().Create("web/inner", 0)
	if c.Mode() != cgroups.Unified {
		require.NoError(t, err)
		require.NoError(t, inner.Close())
		return
	}
	var e *cgroups.InternalProcessError
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.NotContains(t, fake.Tree(), "web/inner")

	// Nor do processes come to be above limits.
	service, err := fake.Root().Create("service", 0)
	require.NoError(t, err)
	defer service.Close()
	inner, err = fake.Root().Create("service/inner", 0)
	require.NoError(t, err)
	defer inner.Close()
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	require.ErrorIs(t, service.Add(t.Context(), pids[0]), syscall.EBUSY)
	after, err := c.Procs(nil)
	require.NoError(t, err)
	assert.Equal(t, pids, after)
}

func clearLimits(t *testing.T, m machine, c *cgroups.Cgroup) {
	before, err := c.Resources()
	require.NoError(t, err)
	set := limits()
	set.CPUSet = cgroups.CPUSet{} // see the regressions about empty ones
	update(t, m, c, set)
	update(t, m, c, cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.DefaultWeight(), Max: cgroups.DefaultBandwidth(), Burst: cgroups.DurationOf(0)},
		Memory: cgroups.Memory{Max: cgroups.Default(), Swap: cgroups.Default()},
		PIDs:   cgroups.PIDs{Max: cgroups.Default()},
	})
	now, err := c.Resources()
	require.NoError(t, err)
	assert.True(t, before.Equal(now), "%+v\nis not\n%+v", now, before)
}

func perDevice(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	update(t, fake, c, ioLimits())
	// One field of one device.
	update(t, fake, c, cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 8}, WriteBytes: cgroups.Bytes(3 * mib)}}}})
	r, err := c.Resources()
	require.NoError(t, err)
	require.Len(t, r.IO.Devices, 2)
	first, second := r.IO.Devices[0], r.IO.Devices[1]
	assert.Equal(t, cgroups.Bytes(mib), first.ReadBytes)
	assert.Equal(t, cgroups.Bytes(3*mib), first.WriteBytes)
	assert.Equal(t, cgroups.Count(100), first.WriteOps)
	assert.Equal(t, cgroups.Bytes(2*mib), second.ReadBytes)
	// A device that is not there is an error, not a silence.
	before := fake.Tree()
	_, err = c.Update(t.Context(), cgroups.Resources{
		PIDs: cgroups.PIDs{Max: cgroups.Count(3)},
		IO:   cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 99}, ReadBytes: cgroups.Bytes(mib)}}},
	})
	require.ErrorIs(t, err, syscall.ENODEV)
	require.NotErrorIs(t, err, cgroups.ErrGone)
	require.Equal(t, before, fake.Tree())
}

func foreignValues(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	update(t, fake, c, limits())
	require.NoError(t, fake.Write("web", "pids.max", "42"))
	update(t, fake, c, cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(9)}}, "cpu.weight", "cpu.shares")
	assert.Equal(t, "42\n", fake.Read("web", "pids.max"), "what was not named is not ours to mend")
	// What is compared is what holds, not what was written last.
	update(t, fake, c, cgroups.Resources{PIDs: limits().PIDs}, "pids.max")
	assert.Equal(t, "100\n", fake.Read("web", "pids.max"))
}

func noPressure(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	for _, name := range []string{"cpu.pressure", "memory.pressure", "io.pressure"} {
		fake.FailRead(name, syscall.EOPNOTSUPP) // psi=0
	}
	var s cgroups.Stats
	require.NoError(t, c.Stat(&s))
	assert.True(t, s.CPUPressure.IsZero())
	var p cgroups.Pressure
	require.ErrorIs(t, c.Pressure(cgroups.PressureCPU, &p), cgroups.ErrNotSupported)
	update(t, fake, c, limits())
}

// belowUsage: the same answer on both versions, and nobody dies.
func belowUsage(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	fake.SetUsage("web", 200*mib)
	pids, err := c.Procs(nil)
	require.NoError(t, err)
	before := fake.Tree()
	_, err = c.Update(t.Context(), cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(100 * mib)}})
	require.ErrorIs(t, err, cgroups.ErrInUse)
	var use *cgroups.InUseError
	require.ErrorAs(t, err, &use)
	assert.EqualValues(t, 200*mib, use.Usage)
	assert.Equal(t, before, fake.Tree())
	assert.True(t, fake.Alive(pids[0]))
	// What can be reclaimed is in nobody's way.
	fake.SetMemory("web", cgroupstest.Usage{Anon: 50 * mib, File: 150 * mib})
	update(t, fake, c, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(100 * mib)}})
	assert.True(t, fake.Alive(pids[0]))
}

func pages(t *testing.T, m machine, c *cgroups.Cgroup) {
	r := cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(64*mib + 5)}}
	update(t, m, c, r)
	update(t, m, c, r)
	require.Empty(t, m.Writes())
	refused(t, m, c, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(100)}}, cgroups.ErrInvalid)
}

// quotaAgainstParent moves quota and period where parent and child leave no room
// on the way.
func quotaAgainstParent(t *testing.T, m machine, web *cgroups.Cgroup) {
	groups := make([]*cgroups.Cgroup, 3)
	for i, path := range []string{"p", "p/a", "p/a/x"} {
		c, err := m.Root().Create(beside(web, path), 0)
		require.NoError(t, err)
		defer c.Close()
		update(t, m, c, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}})
		groups[i] = c
	}
	for _, ms := range []time.Duration{200, 20, 10, 1000, 100} {
		same := cgroups.Quota(ms*time.Millisecond/2, ms*time.Millisecond)
		update(t, m, groups[1], cgroups.Resources{CPU: cgroups.CPU{Max: same}})
		r, err := groups[1].Resources()
		require.NoError(t, err)
		require.Equal(t, same, r.CPU.Max)
	}
	// All three at once, down and up again.
	for _, n := range []float64{0.2, 2, 0.5} {
		var all []cgroups.GroupResources
		for _, c := range groups {
			all = append(all, cgroups.GroupResources{Cgroup: c, Resources: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(n)}}})
		}
		_, err := m.Root().UpdateAll(t.Context(), all)
		require.NoError(t, err)
	}
}

// nest makes a parent and a child on these CPUs.
func nest(t *testing.T, m machine, web *cgroups.Cgroup, cpus ...int) (parent, child *cgroups.Cgroup) {
	t.Helper()
	all := make([]cgroups.GroupResources, 2)
	for i, name := range []string{"parent", "parent/child"} {
		c, err := m.Root().Create(beside(web, name), 0)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, c.Close()) })
		all[i] = cgroups.GroupResources{Cgroup: c, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(cpus...)}}}
	}
	_, err := m.Root().UpdateAll(t.Context(), all)
	require.NoError(t, err)
	return all[0].Cgroup, all[1].Cgroup
}

func nestedCPUSets(t *testing.T, m machine, web *cgroups.Cgroup) {
	parent, child := nest(t, m, web, 0, 1)
	for _, cpus := range [][]int{{0}, {1}, {0}, {0, 1}} {
		set := cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(cpus...)}}
		_, err := m.Root().UpdateAll(t.Context(), []cgroups.GroupResources{{Cgroup: parent, Resources: set}, {Cgroup: child, Resources: set}})
		require.NoError(t, err)
		for _, c := range []*cgroups.Cgroup{parent, child} {
			r, err := c.Resources()
			require.NoError(t, err)
			require.Equal(t, set.CPUSet.CPUs, r.CPUSet.CPUs)
		}
	}
	if parent.Mode() == cgroups.Unified {
		return // a v2 child may have more: what holds is what both have
	}
	// One alone is refused with the reason, and nothing stays of it.
	before := m.Tree()
	_, err := parent.Update(t.Context(), cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0)}, PIDs: cgroups.PIDs{Max: cgroups.Count(5)}})
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "a child group has more")
	require.Equal(t, before, m.Tree())
	one := cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0)}}
	_, err = m.Root().UpdateAll(t.Context(), []cgroups.GroupResources{{Cgroup: parent, Resources: one}, {Cgroup: child, Resources: one}})
	require.NoError(t, err)
	before = m.Tree()
	_, err = child.Update(t.Context(), cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1)}, PIDs: cgroups.PIDs{Max: cgroups.Count(5)}})
	require.ErrorIs(t, err, syscall.EACCES)
	require.ErrorContains(t, err, "not a subset of the parent's")
	require.Equal(t, before, m.Tree())
}

func exchangedCPUs(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	other := group(t, fake, "other")
	a, b := cgroups.SetOf(0, 1), cgroups.SetOf(2, 3)
	for range 3 {
		_, err := fake.Root().UpdateAll(t.Context(), []cgroups.GroupResources{
			{Cgroup: c, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: a}}},
			{Cgroup: other, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: b}}},
		})
		require.NoError(t, err)
		r, err := c.Resources()
		require.NoError(t, err)
		require.Equal(t, a, r.CPUSet.CPUs)
		a, b = b, a
	}
}

// raisedTogether: at no moment has the child more than its parent.
func raisedTogether(t *testing.T, fake *cgroupstest.Fake, web *cgroups.Cgroup) {
	parent, child := nest(t, fake, web, 0)
	fake.Start(child.Path())
	both := func(n uint64) []cgroups.GroupResources {
		max := cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(n * mib)}}
		return []cgroups.GroupResources{{Cgroup: child, Resources: max}, {Cgroup: parent, Resources: max}}
	}
	_, err := fake.Root().UpdateAll(t.Context(), both(64))
	require.NoError(t, err)
	fake.Writes()
	_, err = fake.Root().UpdateAll(t.Context(), both(128))
	require.NoError(t, err)
	writes := fake.Writes()
	require.Len(t, writes, 2)
	assert.Contains(t, writes[0], "parent/memory.", "growing begins above")
	_, err = fake.Root().UpdateAll(t.Context(), both(64))
	require.NoError(t, err)
	writes = fake.Writes()
	require.Len(t, writes, 2)
	assert.Contains(t, writes[0], "child/memory.", "shrinking begins below")
	pids, err := child.Procs(nil)
	require.NoError(t, err)
	assert.True(t, fake.Alive(pids[0]))
}

// frozenStays: updates, several at once, one of them failing, leave a frozen
// group frozen and write nothing about it.
func frozenStays(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	update(t, fake, c, cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(3)}})
	require.NoError(t, c.Freeze(t.Context()))
	fake.Writes()
	fake.Fail("pids.max", syscall.EIO).At(2)
	done := make(chan error)
	for i := range 4 {
		go func() {
			_, err := c.Update(context.Background(), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(uint64(5 + i))}})
			done <- err
		}()
	}
	failed := 0
	for range 4 {
		if err := <-done; err != nil {
			require.ErrorIs(t, err, syscall.EIO)
			failed++
		}
	}
	assert.Equal(t, 1, failed)
	update(t, fake, c, limits())
	for _, w := range fake.Writes() {
		assert.NotContains(t, w, "freeze", w)
	}
	frozen, err := c.Frozen()
	require.NoError(t, err)
	assert.True(t, frozen)
	require.NoError(t, c.Thaw(t.Context()))
}

func highStays(t *testing.T, m machine, c *cgroups.Cgroup) {
	high := cgroups.Resources{Memory: cgroups.Memory{High: cgroups.Bytes(32 * mib)}}
	if c.Mode() != cgroups.Unified {
		refused(t, m, c, high, cgroups.ErrNotSupported)
		return
	}
	update(t, m, c, high)
	update(t, m, c, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(64 * mib)}})
	r, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Bytes(32*mib), r.Memory.High)
}

// triggers: the last digit arrives, and what needs a capability says so.
func triggers(t *testing.T, fake *cgroupstest.Fake, c *cgroups.Cgroup) {
	fake.Writes()
	n, err := c.OpenTrigger(cgroups.PressureMemory, cgroups.Trigger{Stall: 150 * time.Millisecond, Window: 2 * time.Second})
	require.NoError(t, err)
	require.NoError(t, n.Close())
	assert.Equal(t, []string{"web/memory.pressure=some 150000 2000000\x00"}, fake.Writes())
	// Each has a descriptor of its own: the kernel takes one trigger a descriptor.
	for range 3 {
		n, err := c.OpenTrigger(cgroups.PressureMemory, cgroups.Trigger{Stall: 150 * time.Millisecond, Window: 2 * time.Second})
		require.NoError(t, err)
		defer n.Close()
	}
	_, err = c.OpenTrigger(cgroups.PressureMemory, cgroups.Trigger{Stall: 150 * time.Millisecond, Window: time.Second})
	require.ErrorIs(t, err, cgroups.ErrNotSupported)
	require.ErrorContains(t, err, "CAP_SYS_RESOURCE")
}
