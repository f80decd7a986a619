// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A second host of one state directory is refused while the first is open (fault 12,
// two agents).
func TestOneHostHasItsRoot(t *testing.T) {
	cfg := config(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	_, err = isolation.Open(deadline(t), cfg)
	require.ErrorIs(t, err, isolation.ErrLocked)
	shared := cfg
	shared.Shared = true
	_, err = isolation.Open(deadline(t), shared)
	require.ErrorIs(t, err, isolation.ErrLocked)
	require.NoError(t, h.Close())
	require.NoError(t, h.Close(), "closing twice is nil")
	_, err = h.Create(deadline(t), spec(t, "late", "wait"))
	require.ErrorIs(t, err, isolation.ErrClosed)

	openWith(t, shared)
	_, err = isolation.Open(deadline(t), cfg)
	require.ErrorIs(t, err, isolation.ErrLocked, "who wants it alone has to wait for the others")
}

func TestSharedHostsSeeEachOther(t *testing.T) {
	cfg := config(t)
	cfg.Shared = true
	a, b := openWith(t, cfg), must(isolation.Open(deadline(t), cfg))
	defer b.Close()
	box := started(t, a, spec(t, "web", "wait"))

	st, err := b.Check(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	other, err := b.Sandbox(deadline(t), "web")
	require.NoError(t, err)
	_, err = other.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(44)}})
	require.NoError(t, err)
	_, err = box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(45)}})
	require.NoError(t, err)
	_, err = b.Create(deadline(t), spec(t, "web", "exit", "0"))
	require.ErrorIs(t, err, isolation.ErrExists)
	require.ErrorContains(t, err, "another process")

	require.NoError(t, b.Destroy(deadline(t), "web"))
	_, err = box.Wait(deadline(t))
	require.NoError(t, err, "who started it learns how it ended")
	require.NoError(t, box.Destroy(deadline(t)))
	_, err = a.Check(deadline(t), "web")
	require.ErrorIs(t, err, isolation.ErrNotFound)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// killedAgent runs an agent of its own until it has started sandbox id, and kills
// it at once. What it leaves behind has somebody who waits for it.
func killedAgent(t *testing.T, cfg isolation.Config, id string, child ...string) {
	t.Helper()
	cmd := testutil.Child(t, "reaper", append([]string{"agent", cfg.Root, cfg.Parent, id}, child...)...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	t.Cleanup(func() { _ = cmd.Wait() })
}

func TestSandboxSurvivesItsAgent(t *testing.T) {
	cfg := config(t)
	killedAgent(t, cfg, "web", "wait")
	h := openWith(t, cfg)
	require.Len(t, h.Recovered(), 1)
	assert.True(t, h.Recovered()[0].Adopted, "%v", h.Recovered())

	box, err := h.Sandbox(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"made": "before"}, box.Labels())
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	_, err = box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}})
	require.NoError(t, err)

	require.NoError(t, box.Signal(deadline(t), syscall.SIGKILL))
	exit, err := box.Wait(deadline(t))
	require.NoError(t, err)
	require.NoError(t, box.Destroy(deadline(t)))
	nothingOf(t, cfg, "web")
	if !exit.Known {
		testutil.Skip(t, "pidfd.exit", "it was another process's child, and the kernel does not say how it ended")
	}
	assert.Equal(t, int(syscall.SIGKILL), exit.Signal, "%v", exit)
	assert.Equal(t, 128+int(syscall.SIGKILL), exit.Code)
}

// TestSecondHostReaps has a process that one host has started end under another
// host of the same process: it is reaped, and its status known on every kernel.
func TestSecondHostReaps(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := create(t, h, spec(t, "web", "wait"))
	require.NoError(t, box.Start(deadline(t)))
	require.NoError(t, h.Close())
	h = openWith(t, cfg)
	box = must(h.Sandbox(deadline(t), "web"))
	require.NoError(t, box.Signal(deadline(t), syscall.SIGKILL))
	exit, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.True(t, exit.Known)
	assert.Equal(t, int(syscall.SIGKILL), exit.Signal)
}

func TestEndWhileNobodyWasThere(t *testing.T) {
	cfg := config(t)
	killedAgent(t, cfg, "job", "wait")
	procs := must(os.ReadFile(filepath.Join(someTree(t, cfg, "job"), "cgroup.procs")))
	var pid int
	must(fmt.Sscan(string(procs), &pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	// Until init has waited for it, a later host can be told how it ended.
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }, testutil.Patience(5e9), 1e7)

	h := openWith(t, cfg)
	box, err := h.Sandbox(deadline(t), "job")
	require.NoError(t, err)
	exit, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.False(t, exit.Known)
	assert.Equal(t, "unknown", exit.String())
}

// plain is a record without its lines' checksums.
func plain(record []byte) string {
	return regexp.MustCompile(`(?m) [0-9a-f]{8}$`).ReplaceAllString(string(record), "")
}

// unmark takes what the sandbox's group says of it away.
func unmark(t *testing.T, cfg isolation.Config, id string) {
	t.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		_ = syscall.Removexattr(filepath.Join(m.Path, cfg.Parent, id), "trusted.caisson.sandbox")
	}
	root := must(cgroups.Open(""))
	defer root.Close()
	if !root.Detached() {
		return
	}
	// A tree without a path.
	g := must(root.Open(cfg.Parent + "/" + id))
	defer g.Close()
	require.NoError(t, syscall.Removexattr(fmt.Sprintf("/proc/self/fd/%d", g.FD()), "trusted.caisson.sandbox"))
}

// treesOf are the directories of a sandbox's group in the trees that have it.
func treesOf(t *testing.T, cfg isolation.Config, id string) (dirs []string) {
	t.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		dir := filepath.Join(m.Path, cfg.Parent, id)
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	require.NotEmpty(t, dirs, "no tree has %s/%s", cfg.Parent, id)
	return dirs
}

// someTree is one of them.
func someTree(t *testing.T, cfg isolation.Config, id string) string {
	t.Helper()
	return treesOf(t, cfg, id)[0]
}

// What a crash left half-made is removed (fault 1, killed while creating).
func TestHalfMadeIsRemoved(t *testing.T) {
	cfg := config(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	box := create(t, h, spec(t, "half", "wait"))
	require.NoError(t, h.Close())
	// As if the process had died before it could say that the sandbox is whole.
	path := filepath.Join(cfg.Root, "sandboxes", "half.state")
	lines := strings.SplitAfter(string(must(os.ReadFile(path))), "\n")
	require.NoError(t, os.WriteFile(path, []byte(lines[0]), 0o600))
	unmark(t, cfg, "half")

	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 1)
	assert.False(t, h.Recovered()[0].Adopted)
	assert.NoError(t, h.Recovered()[0].Err)
	nothingOf(t, cfg, box.ID())
}

// Nothing that a record of another boot says is believed (fault 8, reboot).
func TestOtherBootIsForgotten(t *testing.T) {
	cfg := config(t)
	killedAgent(t, cfg, "old", "wait")
	path := filepath.Join(cfg.Root, "sandboxes", "old.state")
	unmark(t, cfg, "old")
	text := plain(must(os.ReadFile(path)))
	boot := strings.TrimSpace(string(must(os.ReadFile("/proc/sys/kernel/random/boot_id"))))
	require.Contains(t, text, boot)
	other := strings.Replace(text, boot, "00000000-0000-0000-0000-000000000000", 1)
	require.NoError(t, os.WriteFile(path, []byte(other), 0o600))
	h := must(isolation.Open(deadline(t), cfg))
	require.Len(t, h.Recovered(), 1)
	assert.False(t, h.Recovered()[0].Adopted)
	_, err := h.Check(deadline(t), "old")
	require.ErrorIs(t, err, isolation.ErrNotFound)
	require.NoError(t, h.Close())

	// What the record said of another boot was believed in nothing: the
	// process, which is there in truth, was not touched.
	require.NotEmpty(t, must(os.ReadFile(filepath.Join(someTree(t, cfg, "old"), "cgroup.procs"))))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	openWith(t, cfg)
}

// A record that makes no sense ends no sandbox (fault 16, garbage).
func TestCorruptRecordIsLeftAlone(t *testing.T) {
	cfg := config(t)
	killedAgent(t, cfg, "web", "wait")
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	text := []byte(plain(must(os.ReadFile(path))))
	for name, bad := range map[string][]byte{
		"garbage": []byte("garbage\n"), "newer": []byte(strings.Replace(string(text), `"v":1`, `"v":2`, 1)),
	} {
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		h := must(isolation.Open(deadline(t), cfg))
		require.Len(t, h.Recovered(), 1, name)
		assert.True(t, isolation.IsCorrupt(h.Recovered()[0].Err), "%s: %v", name, h.Recovered())
		_, err := h.Check(deadline(t), "web")
		assert.True(t, isolation.IsCorrupt(err), "%s: it is there: %v", name, err)
		_, err = h.Create(deadline(t), spec(t, "web", "wait"))
		require.ErrorIs(t, err, isolation.ErrExists)
		require.ErrorContains(t, err, "makes no sense")
		require.NoError(t, h.Close())
	}
	require.NoError(t, os.WriteFile(path, text, 0o600))
	h := openWith(t, cfg)
	st, err := h.Check(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State, "nothing was destroyed on the strength of a bad file")
}

// On a full disk nothing is made, and what is there can be ended (fault 15, disk full).
func TestFullDisk(t *testing.T) {
	cfg := config(t)
	dir := tmpfs(t, 0, "size=64k")
	cfg.Root = filepath.Join(dir, "state")
	h := openWith(t, cfg)
	box := started(t, h, spec(t, "before", "wait"))

	full, err := os.Create(filepath.Join(dir, "full"))
	require.NoError(t, err)
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, full.Close())

	_, err = h.Create(deadline(t), spec(t, "after", "wait"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	nothingOf(t, cfg, "after")
	require.NoError(t, box.Destroy(deadline(t)), "destroying needs no room")
	nothingOf(t, cfg, "before")
	require.NoError(t, os.Remove(full.Name()))
	create(t, h, spec(t, "after", "wait"))
}

// tmpfs is a file system of the test's own.
func tmpfs(t *testing.T, flags uintptr, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, syscall.Mount("caisson-test", dir, "tmpfs", flags, options))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// A state directory that nobody can write to is an error of Open (fault 17, read-only).
func TestReadOnlyState(t *testing.T) {
	cfg := config(t)
	dir := tmpfs(t, syscall.MS_RDONLY, "")
	cfg.Root = filepath.Join(dir, "state")
	_, err := isolation.Open(deadline(t), cfg)
	require.ErrorIs(t, err, syscall.EROFS)
}

// What was there before the disk turned read-only can be ended, and what cannot be
// written down is not done (fault 17, read-only).
func TestStateTurnsReadOnly(t *testing.T) {
	cfg := config(t)
	dir := tmpfs(t, 0, "")
	cfg.Root = filepath.Join(dir, "state")
	h := openWith(t, cfg)
	s := spec(t, "before", "wait")
	s.Resources.PIDs.Max = cgroups.Count(50)
	box := started(t, h, s)

	// Read-only by its path; what is open stays writable.
	require.NoError(t, syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	covered := true
	uncover := func() {
		if covered {
			covered = false
			require.NoError(t, syscall.Unmount(dir, 0))
		}
	}
	defer uncover()
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
	_, err := h.Create(deadline(t), spec(t, "after", "wait"))
	require.ErrorIs(t, err, syscall.EROFS)
	nothingOf(t, cfg, "after")
	require.ErrorIs(t, box.Destroy(deadline(t)), syscall.EROFS, "its record is still there")
	_, err = h.Create(deadline(t), s)
	require.ErrorIs(t, err, isolation.ErrState)
	require.ErrorIs(t, box.Destroy(deadline(t)), syscall.EROFS)
	uncover()
	require.NoError(t, box.Destroy(deadline(t)))
	nothingOf(t, cfg, "before")
	create(t, h, spec(t, "before", "wait"))
}

// An update that cannot be acknowledged on a full disk is taken back (fault 15, disk
// full).
func TestUpdateOnFullDisk(t *testing.T) {
	cfg := config(t)
	dir := tmpfs(t, 0, "size=64k")
	cfg.Root = filepath.Join(dir, "state")
	h := openWith(t, cfg)
	s := spec(t, "web", "wait")
	s.Resources.PIDs.Max = cgroups.Count(50)
	box := create(t, h, s)
	full := must(os.Create(filepath.Join(dir, "full")))
	err := error(nil)
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	require.NoError(t, full.Close())
	failed := 0
	for n := uint64(51); n < 200 && failed == 0; n++ { // until the record's own page is full
		_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(n)}})
		now := must(box.Limits())
		if err == nil {
			require.Equal(t, cgroups.Count(n), now.PIDs.Max)
			continue
		}
		failed++
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Equal(t, cgroups.Count(n-1), now.PIDs.Max, "all old")
		require.Equal(t, cgroups.Count(n-1), box.Spec().Resources.PIDs.Max)
	}
	require.Equal(t, 1, failed)
	require.NoError(t, os.Remove(full.Name()))
	_, err = box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(7)}})
	require.NoError(t, err)
}

func TestNoRoot(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	_, err := isolation.Open(context.Background(), isolation.Config{Root: t.TempDir(), Parent: testutil.CgroupName(t)})
	require.Error(t, err)
	assert.True(t, os.IsPermission(err) || strings.Contains(err.Error(), "permission denied"), "%v", err)
	assert.ErrorContains(t, err, "Config.Ungrouped", "what to do")
}

func TestSelectors(t *testing.T) {
	h := open(t)
	for id, tier := range map[string]string{"a": "front", "b": "back", "c": "front"} {
		s := spec(t, id, "wait")
		s.Labels = map[string]string{"tier": tier, "app": "x"}
		create(t, h, s)
	}
	ids := func(sel isolation.Selector) (out []string) {
		for s := range h.Sandboxes(sel) {
			out = append(out, s.ID())
		}
		return out
	}
	assert.Equal(t, []string{"a", "b", "c"}, ids(nil))
	assert.Equal(t, []string{"a", "c"}, ids(isolation.Select(map[string]string{"tier": "front"})))
	assert.Equal(t, []string{"b"}, ids(isolation.Select(map[string]string{"tier": "back", "app": "x"})))
	assert.Empty(t, ids(isolation.Select(map[string]string{"tier": ""})))
}

// three is a driver with the three calls and nothing else.
type three struct{ there map[string]bool }

func (d three) Create(_ context.Context, c *isolation.Container) error {
	d.there[c.Spec.ID] = true
	return c.Save("made")
}

func (d three) Destroy(_ context.Context, c *isolation.Container) error {
	delete(d.there, c.Spec.ID)
	return nil
}

func (d three) Check(_ context.Context, c *isolation.Container) (isolation.Status, error) {
	var saved string
	if ok, err := c.Saved(&saved); err != nil || !ok || !d.there[c.Spec.ID] {
		return isolation.Status{}, isolation.ErrNotFound
	}
	return isolation.Status{State: isolation.StateRunning}, nil
}

func TestDriverWithThreeCalls(t *testing.T) {
	cfg := config(t)
	d := three{there: map[string]bool{}}
	cfg.Drivers = map[string]isolation.Driver{"three": d}
	h := must(isolation.Open(deadline(t), cfg))
	for _, id := range []string{"stays", "vanishes"} {
		box := create(t, h, isolation.Spec{ID: id, Driver: "three", Process: isolation.Process{Args: []string{"x"}}})
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, "three", st.Driver)
		require.ErrorIs(t, box.Start(deadline(t)), isolation.ErrNotSupported)
		_, err = box.Update(deadline(t), cgroups.Resources{})
		require.ErrorIs(t, err, isolation.ErrNotSupported)
		for _, err := range box.Watch(deadline(t)) {
			require.ErrorIs(t, err, isolation.ErrNotSupported)
		}
	}
	require.NoError(t, h.Close())
	delete(d.there, "vanishes")
	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 2)
	assert.True(t, h.Recovered()[0].Adopted)
	assert.False(t, h.Recovered()[1].Adopted, "what vanished is taken off the books")
	require.NoError(t, h.Destroy(deadline(t), "stays"))
	assert.Empty(t, d.there)
}

// slow is a driver whose starts and updates take until they are given up.
type slow struct {
	three
	began chan cgroups.UpdateConfig
}

func (slow) Plan(*isolation.Container, cgroups.Resources) (cgroups.Plan, error) {
	return cgroups.Plan{}, nil
}

func (d slow) Update(ctx context.Context, _ *isolation.Container, _ cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	d.began <- cfg
	<-ctx.Done()
	return cgroups.Result{}, context.Cause(ctx)
}

func (d slow) Start(ctx context.Context, _ *isolation.Container, _ []*os.File) error {
	d.began <- cgroups.UpdateConfig{}
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestDestroyEndsAStart destroys a sandbox whose process does not get as far as its
// program.
func TestDestroyEndsAStart(t *testing.T) {
	cfg := config(t)
	d := slow{three{there: map[string]bool{}}, make(chan cgroups.UpdateConfig)}
	cfg.Drivers = map[string]isolation.Driver{"slow": d}
	h := openWith(t, cfg)
	box := create(t, h, isolation.Spec{ID: "a", Driver: "slow", Process: isolation.Process{Args: []string{"x"}}})
	done := make(chan error, 1)
	go func() { done <- box.Start(context.Background()) }()
	<-d.began
	require.NoError(t, box.Destroy(deadline(t)))
	require.ErrorContains(t, <-done, "being destroyed")
	assert.Empty(t, d.there)
}

// TestDestroyEndsAnUpdate destroys a sandbox whose memory limit is just coming
// down.
func TestDestroyEndsAnUpdate(t *testing.T) {
	cfg := config(t)
	d := slow{three{there: map[string]bool{}}, make(chan cgroups.UpdateConfig)}
	cfg.Drivers = map[string]isolation.Driver{"slow": d}
	h := openWith(t, cfg)
	box := create(t, h, isolation.Spec{ID: "a", Driver: "slow", Process: isolation.Process{Args: []string{"x"}}})
	_, err := box.UpdateWith(deadline(t), cgroups.Resources{}, cgroups.UpdateConfig{Shrink: 77})
	require.ErrorIs(t, err, cgroups.ErrInvalid)
	done := make(chan error, 1)
	go func() {
		_, err := box.UpdateWith(context.Background(), cgroups.Resources{}, cgroups.UpdateConfig{Shrink: cgroups.Force})
		done <- err
	}()
	require.Equal(t, cgroups.Force, (<-d.began).Shrink)
	require.NoError(t, box.Destroy(deadline(t)))
	require.ErrorContains(t, <-done, "being destroyed")
	assert.Empty(t, d.there)
}

// TestManySandboxes holds what an idle sandbox costs the agent.
func TestManySandboxes(t *testing.T) {
	testutil.Require(t, testutil.Real)
	const n = 1000
	h := open(t)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	create(t, h, spec(t, "warm", "wait"))
	before, goroutines := heap(), runtime.NumGoroutine()
	for i := range n {
		s := spec(t, fmt.Sprintf("idle-%d", i), "wait")
		s.Resources.PIDs.Max = cgroups.Count(10)
		create(t, h, s)
	}
	each := (heap() - before) / uint64(n)
	t.Logf("%d bytes of heap a sandbox", each)
	assert.Less(t, each, uint64(16<<10))
	assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
}

func TestStatDoesNotAllocate(t *testing.T) {
	h := open(t)
	box := started(t, h, spec(t, "stat", "wait"))
	var st cgroups.Stats
	require.NoError(t, box.Stat(&st))
	assert.Zero(t, testing.AllocsPerRun(50, func() {
		if err := box.Stat(&st); err != nil {
			t.Error(err)
		}
	}))
}
