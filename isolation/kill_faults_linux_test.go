// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// childLeave leaves a process of another session behind, says its number and ends.
func childLeave([]string) int {
	p, err := os.StartProcess("/proc/self/exe", []string{"x", os.Args[1], "wait"}, &os.ProcAttr{
		Files: []*os.File{nil, nil, nil}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(p.Pid)
	return 0
}

// TestDestroyWithoutFirst: without a pid namespace the first process is one of
// many. When it has gone, the others are known, and end with the sandbox, in
// whatever session they are (faults 20 and 30, init gone but others alive).
func TestDestroyWithoutFirst(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	s := spec(t, "left", "leave")
	s.Namespaces.PID = isolation.NamespaceHost
	box := create(t, h, s)
	out, err := io.ReadAll(run(t, box))
	require.NoError(t, err)
	left, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err, "%s", out)
	end, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.Zero(t, end.Code)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateExited, st.State)
	assert.Equal(t, 1, st.PIDs)
	require.ErrorIs(t, box.Signal(deadline(t), syscall.SIGKILL), isolation.ErrState, "nobody else is meant by it")
	require.NoError(t, syscall.Kill(left, 0), "alive")
	require.NoError(t, box.Destroy(deadline(t)))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", left))
	if err == nil { // as long as whoever it was left to has not reaped it
		assert.Contains(t, string(stat), ") Z ")
	}
}

// TestDestroyMeanwhile: whoever destroys while others create, start and destroy
// the same id, has it gone; a Create or Start that is overtaken fails, and what it
// made is gone too (fault 29).
func TestDestroyMeanwhile(t *testing.T) {
	testutil.CheckLeaks(t)
	rounds := 20
	if testutil.Emulated() {
		rounds = 4
	}
	for _, shared := range []bool{false, true} {
		cfg := config(t)
		cfg.Parent += strconv.FormatBool(shared)
		cfg.Shared = shared
		h := openWith(t, cfg)
		require.NoError(t, h.Destroy(deadline(t), "unknown"))
		for range rounds {
			var at sync.WaitGroup
			s := spec(t, "meanwhile", "wait")
			for range 2 {
				at.Go(func() {
					box, err := h.Create(deadline(t), s)
					if err == nil {
						err = box.Start(deadline(t))
					}
					// Another started it, or somebody destroyed it.
					assert.Truef(t, err == nil || errors.Is(err, isolation.ErrState) || errors.Is(err, isolation.ErrNotFound), "%v", err)
				})
			}
			for range 3 {
				at.Go(func() { assert.NoError(t, h.Destroy(deadline(t), "meanwhile")) })
			}
			at.Wait()
			require.NoError(t, h.Destroy(deadline(t), "meanwhile"))
			nothingOf(t, cfg, "meanwhile")
		}
	}
}

// TestDyingGroups: groups that were removed go, and do not pile up in the kernel
// (fault 31, dying cgroups). The soak of test/bench does the same ten thousand times.
func TestDyingGroups(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h := openWith(t, cfg)
	stat := ""
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		if m.V2 {
			stat = filepath.Join(m.Path, cfg.Parent, "cgroup.stat")
		}
	}
	if stat == "" {
		testutil.Skip(t, "cgroup2", "v1 does not tell how many groups are dying")
	}
	dying := func() (n int) {
		text, err := os.ReadFile(stat)
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(text), "nr_dying_descendants ")
		_, err = fmt.Sscan(rest, &n)
		require.NoError(t, err)
		return n
	}
	layer, cycles := image(t), 24
	if testutil.Emulated() {
		cycles = 8
	}
	for range cycles {
		box := create(t, h, inRoot(t, spec(t, "churn", "exit", "0"), isolation.Root{Layers: []string{layer}}))
		require.NoError(t, box.Start(deadline(t)))
		_, err := box.Wait(deadline(t))
		require.NoError(t, err)
		require.NoError(t, box.Destroy(deadline(t)))
	}
	// The last ones take a moment; and a page of a file that the first one read
	// is its for as long as it is cached.
	n := 0
	assert.Eventually(t, func() bool { n = dying(); return n <= cycles/2 }, testutil.Patience(20*time.Second), 10*time.Millisecond,
		"of %d groups", cycles)
	t.Logf("%d of %d are dying", n, cycles)
}
