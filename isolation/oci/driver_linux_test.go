// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/oci"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/caisson-run/caisson/netns"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// host opens a host with the driver at a place.
func host(t testing.TB, at isolationtest.Place) *isolation.Host {
	t.Helper()
	cfg := isolation.Config{
		Root: at.Dir, Parent: at.Parent, Drivers: map[string]isolation.Driver{"oci": open(t, at)},
		Network: netns.Config{Pins: pins(at)},
	}
	var h *isolation.Host
	var err error
	require.Eventually(t, func() bool { // a child of an agent that was killed holds the lock until it executes
		h, err = isolation.Open(context.Background(), cfg)
		return !errors.Is(err, isolation.ErrLocked)
	}, testutil.Patience(10*time.Second), 10*time.Millisecond)
	require.NoError(t, err)
	return h
}

// place is one for a test that is no part of the suite.
func place(t testing.TB) isolationtest.Place {
	t.Helper()
	testutil.Require(t, testutil.Root)
	return isolationtest.Place{Dir: t.TempDir(), Parent: testutil.CgroupName(t)}
}

// pins is where networks are pinned; a machine may have no /run/netns.
func pins(at isolationtest.Place) string { return filepath.Join(at.Dir, "pins") }

func finish(t testing.TB, h *isolation.Host) {
	t.Helper()
	for box := range h.Sandboxes(nil) {
		require.NoError(t, box.Destroy(t.Context()))
	}
	require.NoError(t, h.Remove(t.Context()))
	require.NoError(t, h.Close())
}

// waiting is a sandbox of this test binary that waits; mark is what makes it do so.
func waiting(root isolation.Root, mark string) isolation.Spec {
	return isolation.Spec{
		ID: "a", Driver: "oci", Root: root,
		Process: isolation.Process{Args: []string{"/workload", mark, "pause"}},
	}
}

func mark(t testing.TB) string {
	t.Helper()
	return testutil.ChildArgs(t, "pause")[1]
}

func pause([]string) int {
	<-time.After(time.Hour)
	return 0
}

// status is a line of /proc/PID/status.
func status(t testing.TB, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "\n"+name+":\t")
	require.True(t, ok)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// TestSecurity: what the spec has by default is in force, or Status names it.
func TestSecurity(t *testing.T) {
	h := host(t, place(t))
	box, err := h.Create(t.Context(), waiting(rootfs(t), mark(t)))
	require.NoError(t, err)
	require.NoError(t, box.Start(t.Context()))
	st, err := box.Check(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", status(t, st.PID, "NoNewPrivs"))
	assert.Equal(t, "00000000a80425fb", status(t, st.PID, "CapBnd"))
	if seccomp.Enabled {
		assert.Equal(t, "2", status(t, st.PID, "Seccomp"))
	} else {
		assert.Contains(t, strings.Join(st.Missing, "\n"), "security.seccomp")
	}
	assert.Contains(t, strings.Join(st.Missing, "\n"), "security.landlock")
	finish(t, h)
}

// TestDevices: libcontainer's rules are in force and stay.
func TestDevices(t *testing.T) {
	h := host(t, place(t))
	spec := waiting(rootfs(t), mark(t))
	box, err := h.Create(t.Context(), spec)
	require.NoError(t, err)
	_, err = box.Update(t.Context(), cgroups.Resources{Devices: cgroups.AllDevices()})
	require.ErrorIs(t, err, isolation.ErrNotSupported)
	finish(t, h)
}

// TestAgentKilled kills agents at any time of a start; the next one has a sandbox
// that runs, one that can be started, or none.
func TestAgentKilled(t *testing.T) {
	at, root := place(t), rootfs(t)
	h := host(t, at)
	require.NoError(t, h.Close())
	started := 0
	for range 12 {
		agent := testutil.Child(t, "agent", at.Dir, at.Parent, root.Path)
		agent.Stderr = nil
		require.NoError(t, agent.Start())
		time.Sleep(time.Duration(10+rand.IntN(90)) * time.Millisecond)
		require.NoError(t, agent.Process.Kill())
		_ = agent.Wait()

		h := host(t, at)
		for _, r := range h.Recovered() {
			require.NoError(t, r.Err, "%s", r)
		}
		for box := range h.Sandboxes(nil) {
			st, err := box.Check(t.Context())
			require.NoError(t, err)
			if st.State == isolation.StateCreated {
				require.Zero(t, st.PIDs, "%+v", st)
				require.NoError(t, box.Start(t.Context()))
				st, err = box.Check(t.Context())
				require.NoError(t, err)
			}
			require.Equal(t, isolation.StateRunning, st.State)
			require.NoError(t, box.Signal(t.Context(), 9))
			end, err := box.Wait(t.Context())
			require.NoError(t, err)
			if end.Known {
				require.Equal(t, 9, end.Signal)
			}
			require.NoError(t, box.Destroy(t.Context()))
			started++
		}
		require.NoError(t, h.Close())
	}
	t.Logf("%d sandboxes were found", started)
	h = host(t, at)
	finish(t, h)
}

// agent makes and starts a sandbox, and waits to be killed.
func agent(args []string) int {
	ctx := context.Background()
	d, err := oci.Open(oci.Config{Root: args[0] + "/libcontainer"})
	if err != nil {
		return 1
	}
	h, err := isolation.Open(ctx, isolation.Config{
		Root: args[0], Parent: args[1], Drivers: map[string]isolation.Driver{"oci": d},
	})
	if err != nil {
		return 1
	}
	root, err := files(args[2])
	if err != nil {
		return 1
	}
	box, err := h.Create(ctx, waiting(root, os.Args[1]))
	if err == nil {
		err = box.Start(ctx)
	}
	if err != nil {
		return 1
	}
	return pause(nil)
}
