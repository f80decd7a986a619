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
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	tried := false
	for _, m := range mounts {
		limit, procs := "memory.limit_in_bytes", "tasks"
		if m.V2 {
			limit, procs = "memory.max", "cgroup.procs"
		}
		dir := filepath.Join(m.Path, testutil.CgroupName(t))
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { assert.NoError(t, unix.Rmdir(dir)) })
		if _, err := os.Stat(filepath.Join(dir, limit)); err != nil {
			continue // not the hierarchy with memory
		}
		tried = true
		for _, bytes := range []int{0, 4096, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20} {
			t.Run(fmt.Sprintf("v2=%v,%s=%d", m.V2, limit, bytes), func(t *testing.T) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, limit), fmt.Append(nil, bytes), 0))
				cmd := testutil.Child(t, "agent", "oom", dir, procs)
				out, err := cmd.Output()
				assert.NoError(t, err, "the launching process died")
				t.Logf("%s", out)
			})
		}
	}
	if !tried {
		testutil.Skip(t, "cgroup.memory", "no hierarchy has the memory controller")
	}
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
	for range 3 {
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
