// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A new group has the limits that it was asked to have, as the kernel tells, or
// does not exist.
func TestCreateWith(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	ctx := t.Context()
	r := openRoot(t)
	name := testutil.CgroupName(t)
	res := Resources{
		CPU:    CPU{Weight: WeightOf(300), Max: CPUs(0.5)},
		Memory: Memory{Max: Bytes(64 << 20)},
		PIDs:   PIDs{Max: Count(64)},
	}
	under := ControllersOf(ControllerCPU, ControllerMemory, ControllerPIDs)
	c, err := r.CreateWith(ctx, name, under, res)
	require.NoError(t, err)
	assert.True(t, c.Controllers().Has(ControllerCPU))
	p, err := c.Plan(res)
	require.NoError(t, err)
	assert.Empty(t, p.Changes, "all of it is in force")

	_, err = r.CreateWith(ctx, name, under, res)
	require.ErrorIs(t, err, fs.ErrExist)
	p, err = c.Plan(res)
	require.NoError(t, err)
	assert.Empty(t, p.Changes, "the second one has touched nothing")
	require.NoError(t, c.Remove(ctx))
	require.NoError(t, c.Close())

	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("no longer wanted"))
	for why, try := range map[string]func() (*Cgroup, error){
		"cancelled": func() (*Cgroup, error) { return r.CreateWith(cancelled, name, under, res) },
		"invalid": func() (*Cgroup, error) {
			return r.CreateWith(ctx, name, under, Resources{CPU: CPU{Weight: WeightOf(0)}})
		},
		"refused by the plan": func() (*Cgroup, error) {
			return r.CreateWith(ctx, name, under, Resources{PIDs: res.PIDs, HugeTLB: []HugeTLB{{PageSize: 128 << 10, Max: Bytes(0)}}})
		},
		"refused by the kernel": func() (*Cgroup, error) {
			return r.CreateWith(ctx, name, under, Resources{
				PIDs: res.PIDs, IO: IO{Devices: []IODevice{{Device: Device{4095, 1}, ReadBytes: Bytes(1)}}},
			})
		},
	} {
		c, err := try()
		require.Error(t, err, why)
		require.Nil(t, c, why)
		for _, h := range r.hierarchies {
			has, err := h.dir.Has(name)
			require.NoError(t, err)
			assert.False(t, has, "%s: %s", why, h.dir.Path())
		}
	}
}

// What is taken for granted of a new group is what this kernel gives one.
func TestFreshFiles(t *testing.T) {
	testutil.Require(t, testutil.Root)
	c := newGroup(t, openRoot(t), 0)
	looked := 0
	for file, want := range freshFiles {
		if file == devicesList || file == devicesBPF {
			continue // never taken for granted
		}
		name, _, _ := strings.Cut(file, ".")
		if name == "blkio" {
			name = "io"
		}
		ctl, ok := parseController(name)
		require.True(t, ok, file)
		n := c.node(ctl)
		if n == nil {
			continue
		}
		got, err := n.dir.ReadFile(file, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		looked++
		text := strings.TrimSpace(string(got))
		if amount, err := parseAmount(want); err == nil {
			have, err := parseAmount(text)
			require.NoError(t, err, file)
			assert.Equal(t, amount, have, file)
			continue
		}
		assert.Equal(t, want, text, file)
	}
	assert.NotZero(t, looked)
}

func BenchmarkCreateWith(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	res := Resources{CPU: CPU{Max: CPUs(0.5)}, Memory: Memory{Max: Bytes(64 << 20)}, PIDs: PIDs{Max: Count(64)}}
	under := ControllersOf(ControllerCPU, ControllerMemory, ControllerPIDs)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	name := testutil.CgroupName(b)
	for range b.N {
		c, err := r.CreateWith(ctx, name, under, res)
		require.NoError(b, err)
		require.NoError(b, c.Remove(ctx))
		require.NoError(b, c.Close())
	}
}
