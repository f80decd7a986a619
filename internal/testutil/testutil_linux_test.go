// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	Main(m, map[string]func([]string) int{
		"cat":  func(args []string) int { fmt.Print(strings.Join(args, "|")); return 7 },
		"wait": func([]string) int { time.Sleep(time.Hour); return 0 },
	})
}

// record is a test that notes how it ended, for the tests of the helpers.
type record struct {
	testing.TB
	skipped, failed string
	cleanups        []func()
}

func (r *record) Helper()          {}
func (r *record) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *record) Skipf(f string, a ...any) {
	r.skipped = fmt.Sprintf(f, a...)
	runtime.Goexit()
}
func (r *record) Errorf(f string, a ...any) { r.failed += fmt.Sprintf(f, a...) + "\n" }
func (r *record) Fatalf(f string, a ...any) {
	r.failed = fmt.Sprintf(f, a...)
	runtime.Goexit()
}

// run calls f as a test would be called, with its cleanups.
func run(t *testing.T, f func(r *record)) *record {
	r := &record{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		c := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		c()
	}
	return r
}

func TestRequire(t *testing.T) {
	t.Setenv("CAISSON_VM_HAS", "")
	t.Setenv("CAISSON_DELEGATED", "")
	r := run(t, func(r *record) { Require(r, Linux, Delegation) })
	assert.Equal(t, "skip(delegation): CAISSON_DELEGATED is not set", r.skipped)

	t.Setenv("CAISSON_VM_HAS", "root,delegation")
	r = run(t, func(r *record) { Require(r, Linux, Delegation) })
	assert.Empty(t, r.skipped)
	assert.Contains(t, r.failed, `must offer "delegation"`)

	r = run(t, func(r *record) { Require(r, Linux) })
	assert.Empty(t, r.skipped+r.failed)

	r = run(t, func(r *record) { Skip(r, "cgroup.kill", "no %s", "file") })
	assert.Equal(t, "skip(cgroup.kill): no file", r.skipped)

	for _, odd := range []Requirement{"", "unknown", "cgroup3.memory", Cgroup2("nonsense"), Cgroup1("nonsense")} {
		assert.Error(t, unmet(odd), odd)
	}
	assert.NotEqual(t, unmet(Root) == nil, unmet(Unprivileged) == nil && os.Geteuid() != 0)
}

// TestPromises holds the matrix's table to what its machines are: what a class
// promises is there, and what is there is promised.
func TestPromises(t *testing.T) {
	Require(t, Matrix)
	probed := []Requirement{
		Linux, Root, Unprivileged, LegacyTree, UnifiedTree, PSI, SysResource, NetAdmin, UserNamespaces,
		Swap, BlockDevice, ScratchDevice, Delegation, Matrix, Real,
	}
	mounts, err := CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		for _, c := range m.Controllers {
			if m.V2 {
				probed = append(probed, Cgroup2(c))
			} else {
				probed = append(probed, Cgroup1(c))
			}
		}
	}
	for _, r := range probed {
		if err := unmet(r); promised(r) {
			assert.NoError(t, err, r)
		} else {
			assert.Error(t, err, "%s is there and not promised", r)
		}
	}
	for r := range strings.SplitSeq(os.Getenv("CAISSON_VM_HAS"), ",") {
		if strings.HasPrefix(r, "cgroup1.") || strings.HasPrefix(r, "cgroup2.") {
			assert.NoError(t, unmet(Requirement(r)), r)
		}
	}
}

func TestChild(t *testing.T) {
	CheckLeaks(t)
	out := &strings.Builder{}
	cmd := Child(t, "cat", "a", "b c")
	cmd.Stdout = out
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &exit)
	assert.Equal(t, 7, exit.ExitCode())
	assert.Equal(t, "a|b c", out.String())

	require.NoError(t, Child(t, "wait").Start(), "killed and reaped by the cleanup")
}

func TestCheckLeaks(t *testing.T) {
	dir := t.TempDir()
	var f *os.File
	r := run(t, func(r *record) {
		CheckLeaks(r)
		var err error
		f, err = os.Create(filepath.Join(dir, "left"))
		require.NoError(t, err)
	})
	assert.Contains(t, r.failed, "left")
	assert.NotContains(t, r.failed, "child")
	require.NoError(t, f.Close())

	child := Child(t, "wait")
	r = run(t, func(r *record) {
		CheckLeaks(r)
		require.NoError(t, child.Start())
	})
	assert.Contains(t, r.failed, fmt.Sprintf("child process %d", child.Process.Pid))

	stop := make(chan struct{})
	r = run(t, func(r *record) {
		CheckLeaks(r)
		go func() { <-stop }()
	})
	close(stop)
	assert.Contains(t, r.failed, "found unexpected goroutines")
}

func TestCheckLeaksThread(t *testing.T) {
	Require(t, Root)
	stop := make(chan struct{})
	r := run(t, func(r *record) {
		CheckLeaks(r)
		moved := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			moved <- syscall.Unshare(syscall.CLONE_NEWUTS)
			<-stop
		}()
		require.NoError(t, <-moved)
	})
	close(stop)
	assert.Regexp(t, `thread \d+ in uts:\[\d+\], not uts:`, r.failed)
}

func TestCgroupName(t *testing.T) {
	Require(t, Root)
	mounts, err := CgroupMounts()
	require.NoError(t, err)
	if len(mounts) == 0 {
		Skip(t, UnifiedTree, "no cgroup hierarchy is mounted")
	}
	child := Child(t, "wait")
	var dir string
	r := run(t, func(r *record) {
		dir = filepath.Join(mounts[len(mounts)-1].Path, CgroupName(r))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		require.NoError(t, child.Start())
		procs := filepath.Join(dir, "a/b/cgroup.procs")
		require.NoError(t, os.WriteFile(procs, fmt.Append(nil, child.Process.Pid), 0))
	})
	assert.Equal(t, "leaked: cgroup "+dir+"\n", r.failed)
	assert.NoDirExists(t, dir)
	require.Error(t, child.Wait(), "it was killed")
}

func TestSweepSparesTheLiving(t *testing.T) {
	own := ownPrefix() + "abcdefgh"
	assert.False(t, dead(own))
	for _, other := range []string{"", "process_api", "caisson-test-", "caisson-test-1-1-1-x", own + "-x", "x" + own} {
		assert.False(t, dead(other), other)
	}
	assert.True(t, dead(fmt.Sprintf("%s%s-%d-%s-x", cgroupPrefix, pidNamespace(), os.Getpid(), "1")), "pid was reused")
	gone := Child(t, "cat")
	_ = gone.Run()
	assert.True(t, dead(fmt.Sprintf("%s%s-%d-%s-x", cgroupPrefix, pidNamespace(), gone.Process.Pid, "1")))
}
