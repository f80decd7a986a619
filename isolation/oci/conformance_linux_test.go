// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci_test

import (
	"context"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/oci"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(wandering) != "" {
		wander()
	}
	oci.Init()
	if code, ok := isolationtest.Workload(); ok {
		os.Exit(code)
	}
	testutil.Main(m, map[string]func([]string) int{"agent": agent, "pause": pause})
}

// wandering in the environment is for TestMainThread.
const wandering = "CAISSON_OCI_WANDER"

// wander gives the main goroutine a second in which to get to another thread, and ends
// with 1 if it has.
func wander() {
	for start := time.Now(); time.Since(start) < time.Second; {
		busy := make(chan struct{})
		go func() {
			for start := time.Now(); time.Since(start) < 100*time.Microsecond; {
			}
			close(busy)
		}()
		<-busy
		if syscall.Gettid() != os.Getpid() {
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// TestMainThread: the main thread is the main goroutine's, and libcontainer's never.
func TestMainThread(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), wandering+"=1")
	require.NoError(t, cmd.Run())
}

func open(t testing.TB, at isolationtest.Place) *oci.Driver {
	t.Helper()
	d, err := oci.Open(oci.Config{Root: filepath.Join(at.Dir, "libcontainer")})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.Close())
		runtime.GC() // closes what os/exec holds of processes that another driver reaped
	})
	return d
}

func TestConformance(t *testing.T) {
	testutil.Require(t, testutil.Root)
	root := rootfs(t)
	warm(t, root)
	isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver { return open(t, at) },
		isolationtest.DriverOptions{
			Program: "/workload",
			Adapt:   func(_ testing.TB, s *isolation.Spec) { s.Root = root },
			Refused: map[string]func(*isolation.Spec){
				"no root":  func(s *isolation.Spec) { s.Root = isolation.Root{} },
				"nowhere":  func(s *isolation.Spec) { s.Root.Path = "/nowhere/to/be/found" },
				"terminal": func(s *isolation.Spec) { s.Process.Terminal = true },
				"reaper":   func(s *isolation.Spec) { s.Process.Reaper = true },
				"landlock": func(s *isolation.Spec) { s.Security.Landlock = isolation.On },
				"partition": func(s *isolation.Spec) {
					s.Resources.CPUSet.Partition = cgroups.PartitionIsolated
					s.Resources.CPUSet.CPUs = cgroups.SetOf(4095)
				},
			},
		})
}

// warm runs one sandbox, after which libcontainer's packages have open what they
// keep: the cgroup mount, and the root directory.
func warm(t *testing.T, root isolation.Root) {
	t.Helper()
	name := testutil.CgroupName(t)
	d := open(t, isolationtest.Place{Dir: t.TempDir(), Parent: name})
	ctx := context.Background()
	h, err := isolation.Open(ctx, isolation.Config{
		Root: t.TempDir(), Parent: name, Drivers: map[string]isolation.Driver{"oci": d},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Close()) }()
	box, err := h.Create(ctx, isolation.Spec{
		ID: "warm", Driver: "oci", Root: root, Process: isolation.Process{Args: []string{"/workload", "-test.list=^$"}},
	})
	require.NoError(t, err)
	require.NoError(t, box.Start(ctx))
	st, err := box.Wait(ctx)
	require.NoError(t, err)
	require.Zero(t, st.Code)
	require.NoError(t, box.Destroy(ctx))
	require.NoError(t, h.Remove(ctx))
}

// rootfs is a root in which this test binary is the program.
func rootfs(t testing.TB) isolation.Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(dir, 0o755))
	r, err := files(dir)
	require.NoError(t, err)
	return r
}

// files is a root in an empty directory, with the libraries that this binary needs
// unless it is static.
func files(dir string) (isolation.Root, error) {
	r := isolation.Root{Path: dir}
	exe, err := os.Executable()
	if err != nil {
		return r, err
	}
	r.Volumes = []isolation.Volume{{Source: exe, Target: "/workload", ReadOnly: true}}
	f, err := elf.Open(exe)
	if err != nil {
		return r, err
	}
	defer f.Close()
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return r, nil
	}
	for _, lib := range []string{"/lib", "/lib64", "/usr/lib"} {
		if to, err := filepath.EvalSymlinks(lib); err == nil {
			r.Volumes = append(r.Volumes, isolation.Volume{Source: to, Target: lib, ReadOnly: true})
		}
	}
	return r, nil
}
