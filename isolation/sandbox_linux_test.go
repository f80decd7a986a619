// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLifeOfASandbox(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	s := spec(t, "web-1", "wait")
	s.Labels = map[string]string{"app": "web"}
	s.Resources.Memory.Max = cgroups.Bytes(512 << 20)
	s.Resources.PIDs.Max = cgroups.Count(100)
	box := create(t, h, s)

	st, err := h.Check(deadline(t), "web-1")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateCreated, st.State)
	assert.Zero(t, st.PIDs)
	_, err = box.Wait(deadline(t))
	require.ErrorIs(t, err, isolation.ErrState)
	require.ErrorIs(t, box.Signal(deadline(t), syscall.SIGTERM), isolation.ErrState)

	out := run(t, box)
	_, err = io.ReadFull(out, make([]byte, 6))
	require.NoError(t, err)
	require.ErrorIs(t, box.Start(deadline(t)), isolation.ErrState, "it is started once")

	st, err = box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	assert.Equal(t, "native", st.Driver)
	assert.Equal(t, s.Labels, st.Labels)
	assert.Positive(t, st.PID)
	assert.GreaterOrEqual(t, st.PIDs, 1)
	assert.Empty(t, st.Missing)

	var stats cgroups.Stats
	require.NoError(t, box.Stat(&stats))
	current, ok := stats.PIDs.Current.Value()
	assert.True(t, ok)
	assert.Positive(t, current)

	result, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(200)}})
	require.NoError(t, err)
	assert.Len(t, result.Changes, 1)
	result, err = box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(200)}})
	require.NoError(t, err)
	assert.Empty(t, result.Changes, "the same again writes nothing")
	assert.Equal(t, cgroups.Count(200), box.Spec().Resources.PIDs.Max)
	assert.Equal(t, cgroups.Bytes(512<<20), box.Spec().Resources.Memory.Max, "what was not named stays")

	require.NoError(t, box.Freeze(deadline(t)))
	st, err = box.Check(deadline(t))
	require.NoError(t, err)
	assert.True(t, st.Frozen)
	require.NoError(t, box.Thaw(deadline(t)))

	cold := create(t, h, spec(t, "cold", "wait"))
	require.NoError(t, cold.Freeze(deadline(t)))
	require.ErrorIs(t, cold.Start(deadline(t)), isolation.ErrState, "its process would not begin")
	require.NoError(t, cold.Thaw(deadline(t)))
	require.NoError(t, cold.Start(deadline(t)))

	require.NoError(t, box.Signal(deadline(t), syscall.SIGKILL))
	exit, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.True(t, exit.Known)
	assert.Equal(t, int(syscall.SIGKILL), exit.Signal)
	assert.Equal(t, 137, exit.Code)
	assert.False(t, exit.OOM)
	st, err = box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateExited, st.State)
	assert.Zero(t, st.PID)

	require.NoError(t, h.Destroy(deadline(t), "web-1"))
	require.NoError(t, h.Destroy(deadline(t), "web-1"), "an id that is not there is nil")
	require.NoError(t, box.Destroy(deadline(t)))
	_, err = h.Check(deadline(t), "web-1")
	require.ErrorIs(t, err, isolation.ErrNotFound)
	require.ErrorIs(t, box.Start(deadline(t)), isolation.ErrNotFound)
}

func TestExitStatusIsPassedOn(t *testing.T) {
	h := open(t)
	for _, code := range []int{0, 3, 127, 128 + int(syscall.SIGKILL), 128 + int(syscall.SIGTERM)} {
		s := spec(t, "exit-"+strconv.Itoa(code), "exit", strconv.Itoa(code))
		// Signals to itself must work: pid 1 of a namespace ignores its own.
		s.Namespaces.PID = isolation.NamespaceHost
		box := create(t, h, s)
		require.NoError(t, box.Start(deadline(t)))
		exit, err := box.Wait(deadline(t))
		require.NoError(t, err)
		assert.True(t, exit.Known)
		assert.Equal(t, code, exit.Code)
		again, err := box.Wait(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, exit, again, "it may be asked for again")
	}
}

func TestProcessIsAsAsked(t *testing.T) {
	h := open(t)
	s := spec(t, "who", "whoami")
	s.Process.Env = []string{"A=1", "PATH=/nowhere"}
	s.Process.Dir = "/tmp"
	s.Process.User = isolation.User{UID: 12, GID: 34}
	s.Hostname = "elsewhere"
	// The test binary may be where only root may look.
	exe := filepath.Join(t.TempDir(), "exe")
	copyFile(t, s.Process.Args[0], exe)
	for dir := filepath.Dir(exe); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	s.Process.Args[0] = exe
	box := create(t, h, s)
	out := run(t, box)
	said, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Equal(t, "pid=1 uid=12 gid=34 host=elsewhere dir=/tmp env=[A=1 PATH=/nowhere]\n", string(said))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o755))
}

func TestNamespaces(t *testing.T) {
	h := open(t)
	s := spec(t, "ns", "wait")
	s.Namespaces.Network = isolation.NamespaceNew
	s.Namespaces.IPC = isolation.NamespaceHost
	box := started(t, h, s)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	for kind, isNew := range map[namespaces.Kind]bool{
		namespaces.PID: true, namespaces.Mount: true, namespaces.UTS: true, namespaces.Cgroup: true,
		namespaces.Network: true, namespaces.IPC: false, namespaces.User: false,
	} {
		theirs, err := os.Readlink("/proc/" + strconv.Itoa(st.PID) + "/ns/" + kind.String())
		require.NoError(t, err)
		ours, err := os.Readlink("/proc/self/ns/" + kind.String())
		require.NoError(t, err)
		assert.Equal(t, isNew, theirs != ours, "%s", kind)
	}
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	require.NoError(t, err)
	assert.Contains(t, string(limits), "NoNewPrivs:\t1")
	assert.Contains(t, string(limits), "CapBnd:\t00000000a80425fb")
}

func TestUserNamespace(t *testing.T) {
	h := open(t)
	s := spec(t, "user", "wait")
	s.Namespaces.User = isolation.NamespaceNew
	s.Namespaces.UIDMap = namespaces.IDMaps{{Inside: 0, Outside: 0, Count: 1}, {Inside: 1, Outside: 100000, Count: 1000}}
	s.Namespaces.GIDMap = s.Namespaces.UIDMap
	box := started(t, h, s)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	m, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/uid_map")
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "0", "1", "1", "100000", "1000"}, strings.Fields(string(m)))
}

func TestCreateAgain(t *testing.T) {
	h := open(t)
	s := spec(t, "again", "wait")
	box := create(t, h, s)
	same, err := h.Create(deadline(t), s)
	require.NoError(t, err)
	assert.Same(t, box, same)
	_, err = box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(7)}})
	require.NoError(t, err)
	_, err = h.Create(deadline(t), s)
	require.NoError(t, err, "an update since does not make it another spec")
	s.Labels = map[string]string{"other": "yes"}
	_, err = h.Create(deadline(t), s)
	require.ErrorIs(t, err, isolation.ErrExists)
}

// Of several who create one id at once exactly one does (fault 12, two agents).
func TestOneOfManyCreatorsWins(t *testing.T) {
	h := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[*isolation.Sandbox]int{}
	for i := range 8 {
		s := spec(t, "race", "wait")
		s.Labels = map[string]string{"who": strconv.Itoa(i % 2)}
		wg.Go(func() {
			box, err := h.Create(context.Background(), s)
			if errors.Is(err, isolation.ErrExists) {
				return
			}
			if assert.NoError(t, err) {
				mu.Lock()
				defer mu.Unlock()
				made[box]++
			}
		})
	}
	wg.Wait()
	assert.Len(t, made, 1)
	wg = sync.WaitGroup{}
	for range 8 {
		wg.Go(func() { assert.NoError(t, h.Destroy(context.Background(), "race")) })
	}
	wg.Wait()
}

// nothingOf asserts that no group and no record of id is left.
func nothingOf(t *testing.T, cfg isolation.Config, id string) {
	t.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		assert.NoDirExists(t, filepath.Join(m.Path, cfg.Parent, id))
	}
	files, err := os.ReadDir(filepath.Join(cfg.Root, "sandboxes"))
	require.NoError(t, err)
	for _, f := range files {
		assert.NotContains(t, f.Name(), id)
	}
}

// failing is an isolator that fails where it is told to.
type failing struct {
	at      string
	cleaned int
}

var errPlanted = errors.New("planted")

func (f *failing) Name() string { return "failing" }
func (f *failing) Prepare(context.Context, *isolation.Container) error {
	return f.fail("prepare")
}
func (f *failing) Cleanup(context.Context, *isolation.Container) error { f.cleaned++; return nil }
func (f *failing) Launch(*isolation.Container, *isolation.Launch) error {
	return f.fail("launch")
}
func (f *failing) Started(context.Context, *isolation.Container, int) error {
	return f.fail("started")
}
func (f *failing) Update(context.Context, *isolation.Container, cgroups.Resources) error {
	return f.fail("update")
}
func (f *failing) fail(at string) error {
	if f.at == at {
		return errPlanted
	}
	return nil
}

func TestCreateIsAllOrNothing(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	f := &failing{at: "prepare"}
	cfg.Isolators = []isolation.Isolator{f}
	h := openWith(t, cfg)
	_, err := h.Create(deadline(t), spec(t, "half", "wait"))
	require.ErrorIs(t, err, errPlanted)
	assert.ErrorContains(t, err, `create "half": failing: planted`)
	assert.Equal(t, 1, f.cleaned)
	nothingOf(t, cfg, "half")
	f.at = ""
	create(t, h, spec(t, "half", "wait"))
}

func TestStartIsAllOrNothing(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	f := &failing{}
	cfg.Isolators = []isolation.Isolator{f}
	h := openWith(t, cfg)
	box := create(t, h, spec(t, "start", "wait"))
	for _, f.at = range []string{"launch", "started"} {
		require.ErrorIs(t, box.Start(deadline(t)), errPlanted)
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, isolation.StateCreated, st.State)
		assert.Zero(t, st.PIDs, "no process is left")
	}
	f.at = ""
	require.NoError(t, box.Start(deadline(t)), "it may be started again")
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	cfg := config(t)
	f := &failing{at: "update"}
	cfg.Isolators = []isolation.Isolator{f}
	h := openWith(t, cfg)
	s := spec(t, "update", "wait")
	s.Resources.PIDs.Max = cgroups.Count(10)
	box := create(t, h, s)
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(20)}})
	require.ErrorIs(t, err, errPlanted)
	assert.Equal(t, cgroups.Count(10), box.Spec().Resources.PIDs.Max)
	plan, err := box.Plan(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(10)}})
	require.NoError(t, err)
	assert.Empty(t, plan.Changes, "the kernel holds the old value")
}

func TestMissingProgram(t *testing.T) {
	h := open(t)
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o644))
	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte("x"), 0o755))
	for i, c := range []struct {
		program string
		want    error
	}{
		{"/no/such/program", os.ErrNotExist},
		{"no-such-program", os.ErrNotExist},
		{plain, os.ErrPermission},
		{"/", os.ErrPermission},
		{broken, syscall.ENOEXEC},
	} {
		box := create(t, h, isolation.Spec{
			ID: "missing" + strconv.Itoa(i), Process: isolation.Process{Args: []string{c.program}},
		})
		err := box.Start(deadline(t))
		require.ErrorIs(t, err, c.want, c.program)
		assert.ErrorContains(t, err, c.program)
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, isolation.StateCreated, st.State)
	}
}

func TestInvalidSpecTouchesNothing(t *testing.T) {
	cfg := config(t)
	h := openWith(t, cfg)
	for _, id := range []string{"..", "/", "a\x00b", strings.Repeat("x", 300), "ä", ""} {
		_, err := h.Create(deadline(t), spec(t, id, "wait"))
		require.ErrorIs(t, err, isolation.ErrInvalid, "%q", id)
		require.ErrorIs(t, h.Destroy(deadline(t), id), isolation.ErrInvalid)
		_, err = h.Check(deadline(t), id)
		require.ErrorIs(t, err, isolation.ErrInvalid)
	}
	s := spec(t, "driver", "wait")
	s.Driver = "nobody's"
	_, err := h.Create(deadline(t), s)
	require.ErrorIs(t, err, isolation.ErrInvalid)
	nothingOf(t, cfg, "driver")
}

func TestUnsupportedKnobTouchesNothing(t *testing.T) {
	cfg := config(t)
	h := openWith(t, cfg)
	s := spec(t, "knob", "wait")
	s.Resources.HugeTLB = []cgroups.HugeTLB{{PageSize: 3 << 40, Max: cgroups.Bytes(0)}}
	_, err := h.Create(deadline(t), s)
	require.Error(t, err)
	assert.True(t, errors.Is(err, isolation.ErrNotSupported) || errors.Is(err, isolation.ErrInvalid), "%v", err)
	nothingOf(t, cfg, "knob")
}

func TestCancelledContext(t *testing.T) {
	cfg := config(t)
	h := openWith(t, cfg)
	box := create(t, h, spec(t, "ctx", "wait"))
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, box.Start(gone), context.Canceled)
	_, err := box.Update(gone, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(5)}})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, box.Start(deadline(t)))
	_, err = box.Wait(gone)
	require.ErrorIs(t, err, context.Canceled)
}

func TestGroupRemovedUnderneath(t *testing.T) {
	cfg := config(t)
	h := openWith(t, cfg)
	box := create(t, h, spec(t, "gone", "wait"))
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		err := os.Remove(filepath.Join(m.Path, cfg.Parent, "gone"))
		require.True(t, err == nil || errors.Is(err, os.ErrNotExist), "%v", err)
	}
	if h.Root().Detached() {
		testutil.Skip(t, "cgroup2", "the unified tree has no path to remove a group by")
	}
	_, err = box.Check(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotFound)
	var stats cgroups.Stats
	require.ErrorIs(t, box.Stat(&stats), cgroups.ErrGone)
	require.Error(t, box.Start(deadline(t)))
	require.NoError(t, box.Destroy(deadline(t)))
	nothingOf(t, cfg, "gone")

	for _, m := range mounts {
		for _, name := range []string{"_" + elastic.BestEffort.String(), ""} {
			err := os.Remove(filepath.Join(m.Path, cfg.Parent, name))
			require.True(t, err == nil || errors.Is(err, os.ErrNotExist), "%v", err)
		}
	}
	_, err = h.Create(deadline(t), spec(t, "late", "wait"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, `removed the parent group "`+cfg.Parent+`"`)
}

func TestOutOfMemory(t *testing.T) {
	h := open(t)
	s := spec(t, "oom", "hog")
	s.Process.Reaper = true // which passes the end on
	s.Resources.Memory.Max = cgroups.Bytes(48 << 20)
	if testutil.Emulated() { // where all swap would be filled first
		s.Resources.Memory.Swap = cgroups.Bytes(0)
	}
	box := create(t, h, s)
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second))
	defer cancel()
	events := make(chan []isolation.Event)
	watching := make(chan struct{})
	go func() {
		var seen []isolation.Event
		close(watching)
		for ev, err := range box.Watch(ctx) {
			if !assert.NoError(t, err) {
				break
			}
			seen = append(seen, ev)
		}
		events <- seen
	}()
	<-watching
	require.NoError(t, box.Start(deadline(t)))
	exit, err := box.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 128+int(syscall.SIGKILL), exit.Code)
	assert.True(t, exit.OOM, "the end is put down to the limit: %v", exit)
	seen := <-events
	require.NotEmpty(t, seen)
	assert.IsType(t, isolation.Exited{}, seen[len(seen)-1], "the exit is the last event")
	found := false
	for _, ev := range seen {
		if _, ok := ev.(isolation.OOM); ok {
			found = true
		}
	}
	assert.True(t, found, "the kill is told before the exit: %v", seen)
}

// A start that the sandbox's own limit leaves no memory for says so, and can be tried again
// under another limit; one that gets as far as the program dies of it (fault 45).
func TestStartOutOfMemory(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	s := spec(t, "tiny", "exit", "0")
	page := uint64(os.Getpagesize())
	s.Resources.Memory.Max = cgroups.Bytes(page)
	if testutil.Emulated() {
		s.Resources.Memory.Swap = cgroups.Bytes(0)
	}
	box := create(t, h, s)
	err := box.Start(deadline(t))
	require.ErrorIs(t, err, syscall.ENOMEM)
	require.ErrorContains(t, err, "memory.max, of "+strconv.FormatUint(page, 10))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateCreated, st.State)
	assert.Zero(t, st.PIDs)

	_, err = box.Update(deadline(t), cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(512 << 10)}})
	require.NoError(t, err)
	require.NoError(t, box.Start(deadline(t)))
	exit, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, int(syscall.SIGKILL), exit.Signal)
	assert.True(t, exit.OOM, "%v", exit)
	require.NoError(t, box.Destroy(deadline(t)))
}

func TestDestroyEndsEveryProcess(t *testing.T) {
	h := open(t)
	s := spec(t, "forks", "forks")
	s.Resources.PIDs.Max = cgroups.Count(60)
	box := create(t, h, s)
	out := run(t, box)
	said := make([]byte, 8)
	_, err := io.ReadFull(out, said)
	require.NoError(t, err)
	assert.Equal(t, "refused\n", string(said), "the limit holds")
	require.NoError(t, box.Destroy(deadline(t)))
}

func TestDestroyReapsAndTells(t *testing.T) {
	h := open(t)
	box := started(t, h, spec(t, "reaped", "wait"))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	ends := make(chan isolation.ExitStatus, 1)
	go func() {
		exit, err := box.Wait(context.Background())
		assert.NoError(t, err)
		ends <- exit
	}()
	last := make(chan isolation.Event, 1)
	watch := make(chan struct{})
	go func() {
		var ev isolation.Event
		close(watch)
		for next, err := range box.Watch(context.Background()) {
			assert.NoError(t, err)
			ev = next
		}
		last <- ev
	}()
	<-watch
	require.NoError(t, box.Destroy(deadline(t)))
	assert.NoDirExists(t, "/proc/"+strconv.Itoa(st.PID), "no zombie is left")
	exit := <-ends
	assert.True(t, exit.Known)
	assert.Equal(t, int(syscall.SIGKILL), exit.Signal)
	<-last
}

func TestOOMGroupIsSetOnceTheProcessRuns(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("memory"))
	h := open(t)
	s := spec(t, "together", "wait")
	s.Resources.Memory.OOMGroup = cgroups.On
	box := create(t, h, s)
	holds := func() cgroups.Switch {
		r, err := box.Cgroup().Resources()
		require.NoError(t, err)
		return r.Memory.OOMGroup
	}
	assert.Equal(t, cgroups.Off, holds(), "a kill before exec would reach the caller")
	require.NoError(t, box.Start(deadline(t)))
	assert.Equal(t, cgroups.On, holds())
	_, err := box.Update(deadline(t), cgroups.Resources{Memory: cgroups.Memory{OOMGroup: cgroups.Off}})
	require.NoError(t, err)
	assert.Equal(t, cgroups.Off, holds())
}

func TestOOMGroupMissingIsToldAtCreate(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("memory"))
	cfg := config(t)
	h := openWith(t, cfg)
	s := spec(t, "alone", "wait")
	s.Resources.Memory.OOMGroup = cgroups.On
	_, err := h.Create(deadline(t), s)
	require.ErrorIs(t, err, isolation.ErrNotSupported)
	nothingOf(t, cfg, "alone")
}

func TestProcessIsBornInItsCPUSet(t *testing.T) {
	h := open(t)
	if !h.Root().Controllers().Has(cgroups.ControllerCPUSet) || runtime.NumCPU() < 2 {
		testutil.Skip(t, "cpuset", "needs the cpuset controller and two CPUs")
	}
	s := spec(t, "pinned", "wait")
	s.Resources.CPUSet.CPUs = cgroups.SetOf(1)
	box := started(t, h, s)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	require.NoError(t, err)
	assert.Contains(t, string(status), "Cpus_allowed_list:\t1\n")

	_, err = box.Update(deadline(t), cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1)}})
	require.NoError(t, err)
	status, err = os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	require.NoError(t, err)
	assert.Contains(t, string(status), "Cpus_allowed_list:\t0-1\n", "a wider set is not held back")
}
