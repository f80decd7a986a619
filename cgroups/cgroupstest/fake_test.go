// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEverythingWorks(t *testing.T) {
	for name, layout := range map[string]Layout{"v1": V1, "v2": V2, "hybrid": Hybrid} {
		t.Run(name, func(t *testing.T) {
			f := New(t, layout)
			r := f.Root()
			agent, err := r.Create("agent", 0)
			require.NoError(t, err)
			defer agent.Close()
			web, err := r.Create("agent/web", 0)
			require.NoError(t, err)
			defer web.Close()
			pid := f.Start("agent/web")
			f.SetUsage("agent/web", 300<<20)
			res := cgroups.Resources{
				CPU:     cgroups.CPU{Weight: cgroups.WeightOf(500), Max: cgroups.CPUs(1.5), Burst: cgroups.DurationOf(10 * time.Millisecond)},
				CPUSet:  cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1)},
				Memory:  cgroups.Memory{Max: cgroups.Bytes(512 << 20)},
				IO:      cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 8}, ReadBytes: cgroups.Bytes(1 << 20)}}},
				PIDs:    cgroups.PIDs{Max: cgroups.Count(100)},
				Devices: cgroups.DefaultDevices(),
			}
			p, err := web.Plan(res)
			require.NoError(t, err)
			t.Log(p)
			_, err = web.Update(t.Context(), res)
			require.NoError(t, err)
			t.Log(f.Tree())
			again, err := web.Update(t.Context(), res)
			require.NoError(t, err)
			require.Empty(t, again.Changes)
			var s cgroups.Stats
			require.NoError(t, web.Stat(&s))
			used, _ := s.Memory.Current.Value()
			assert.EqualValues(t, 300<<20, used)
			require.NoError(t, web.Freeze(t.Context()))
			frozen, err := web.Frozen()
			require.NoError(t, err)
			assert.True(t, frozen)
			require.NoError(t, web.Thaw(t.Context()))
			pids, err := web.Procs(nil)
			require.NoError(t, err)
			assert.Equal(t, []int{pid}, pids)
			require.NoError(t, web.Kill(t.Context()))
			assert.False(t, f.Alive(pid))
			require.NoError(t, web.Remove(t.Context()))
			require.NoError(t, agent.Remove(t.Context()))
		})
	}
}

func TestFaults(t *testing.T) {
	f := New(t, V2)
	web, err := f.Root().Create("web", 0)
	require.NoError(t, err)
	defer web.Close()
	before := f.Tree()
	x := f.Fail("cpu.max", syscall.EIO).At(1)
	res := cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(500), Max: cgroups.CPUs(1)}, PIDs: cgroups.PIDs{Max: cgroups.Count(5)}}
	_, err = web.Update(t.Context(), res)
	require.ErrorIs(t, err, syscall.EIO)
	assert.Equal(t, before, f.Tree())
	assert.Equal(t, 1, x.Struck())
	_, err = web.Update(t.Context(), res)
	require.NoError(t, err)

	b := f.Block("memory.max")
	done := make(chan error)
	go func() {
		_, err := web.Update(context.Background(), cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 30)}})
		done <- err
	}()
	<-b.Reached()
	b.Release()
	require.NoError(t, <-done)
	assert.Equal(t, "1073741824\n", f.Read("web", "memory.max"))
}
