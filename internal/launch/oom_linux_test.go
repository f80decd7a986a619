// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

// A child that runs out of memory in its own cgroup, on its way to exec, shares
// its memory with us. The OOM killer must not take us along.
func TestAgentSurvivesOOM(t *testing.T) {
	testutil.Require(t, testutil.Root)
	for name, tt := range map[string]struct {
		needs               testutil.Requirement
		v2                  bool
		limit, procs, other string
	}{
		"v1": {testutil.Cgroup1("memory"), false, "memory.limit_in_bytes", "tasks", ""},
		"v2": {testutil.Cgroup2("memory"), true, "memory.max", "cgroup.procs", "memory.swap.max"},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Require(t, tt.needs)
			dir := filepath.Join(hierarchy(t, tt.v2, "memory"), testutil.CgroupName(t))
			require.NoError(t, os.Mkdir(dir, 0o755))
			t.Cleanup(func() { assert.NoError(t, unix.Rmdir(dir)) })
			sizes := []int{0, 4 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}
			if testutil.Emulated() {
				sizes = []int{0, 16 << 10, 128 << 10, 1 << 20}
			}
			if tt.other != "" {
				_ = os.WriteFile(filepath.Join(dir, tt.other), []byte("0"), 0) // not there without swap
			}
			for _, size := range sizes {
				require.NoError(t, os.WriteFile(filepath.Join(dir, tt.limit), fmt.Append(nil, size), 0))
				out, err := testutil.Child(t, "agent", "oom", dir, tt.procs).Output()
				assert.NoError(t, err, "the launching process died, at %d bytes", size)
				t.Logf("%d bytes: %s", size, out)
			}
		})
	}
}

// hierarchy finds where a controller is mounted and, on v2, has it enabled for
// new cgroups.
func hierarchy(t *testing.T, v2 bool, controller string) string {
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		if m.V2 != v2 || !slices.Contains(m.Controllers, controller) {
			continue
		}
		if v2 {
			control := filepath.Join(m.Path, "cgroup.subtree_control")
			enabled, err := os.ReadFile(control)
			require.NoError(t, err)
			if !slices.Contains(strings.Fields(string(enabled)), controller) {
				require.NoError(t, os.WriteFile(control, []byte("+"+controller), 0))
			}
		}
		return m.Path
	}
	t.Fatal("Require found one")
	return ""
}

// oomAgent launches some children into the cgroup and reports what became of
// them; it returns at all only if it lives.
func oomAgent(args []string) int {
	dir, procs := args[0], args[1]
	exe, err := os.Executable()
	if err != nil {
		return 1
	}
	s := Spec{Path: exe, Args: []string{exe, "caisson-test-child", "exit", "0"}, Loopback: true,
		Namespaces: NewMount | NewPID | NewIPC | NewUTS | NewNet | NewCgroup,
		Mounts:     []Mount{{Source: "proc", Target: "/proc", Type: "proc"}}}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if procs == "tasks" {
		f, err = os.OpenFile(filepath.Join(dir, procs), os.O_WRONLY, 0)
	}
	if err != nil {
		return 1
	}
	defer f.Close()
	if procs == "tasks" {
		s.Tasks = []File{{int(f.Fd()), f.Name()}}
	} else {
		s.Cgroup = &File{int(f.Fd()), f.Name()}
	}
	p, err := Compile(s)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for range 2 {
		runtime.GC()
		c, err := p.Start(context.Background())
		var step *StepError
		switch {
		case errors.As(err, &step):
			fmt.Println(err)
		case err != nil:
			fmt.Println("no step error:", err)
			return 1
		default:
			status, err := c.Wait()
			fmt.Printf("started, then %+v %v\n", status, err)
		}
	}
	return 0
}
