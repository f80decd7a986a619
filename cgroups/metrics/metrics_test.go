// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/metrics"
)

func TestFromStats(t *testing.T) {
	n := cgroups.ReadingOf[uint64]
	d := cgroups.ReadingOf[time.Duration]
	line := cgroups.PressureLine{Present: true, Avg10: 1.5, Avg60: 2, Avg300: 3, Total: 7 * time.Microsecond}
	m := metrics.FromStats(&cgroups.Stats{
		Has: cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory, cgroups.ControllerIO,
			cgroups.ControllerPIDs, cgroups.ControllerRDMA, cgroups.ControllerHugeTLB),
		CPU:    cgroups.CPUStats{Usage: d(5 * time.Microsecond), Throttled: n(3)},
		Memory: cgroups.MemoryStats{Current: n(9), Max: cgroups.Max(), SwapMax: cgroups.Bytes(4), RefaultAnon: n(1), RefaultFile: n(2), Events: cgroups.MemoryEvents{OOMKill: n(6)}},
		IO: cgroups.IOStats{Devices: []cgroups.IODeviceStats{
			{Device: cgroups.Device{Major: 8, Minor: 16}, IOCounters: cgroups.IOCounters{ReadBytes: n(11), WriteOps: n(12)}},
		}},
		PIDs:        cgroups.PIDsStats{Current: n(2), Max: cgroups.Count(10)},
		RDMA:        []cgroups.RDMAStats{{Device: "mlx4_0", Handles: n(math.MaxUint64)}},
		HugeTLB:     []cgroups.HugeTLBStats{{PageSize: 2 << 20, Current: n(1)}, {PageSize: 1 << 30}, {PageSize: 64 << 10}},
		CPUPressure: cgroups.Pressure{Some: line},
	})
	assert.EqualValues(t, 5, m.GetCPU().GetUsageUsec())
	assert.EqualValues(t, 3, m.GetCPU().GetNrThrottled())
	assert.EqualValues(t, 7, m.GetCPU().GetPSI().GetSome().GetTotal())
	assert.InDelta(t, 1.5, m.GetCPU().GetPSI().GetSome().GetAvg10(), 0)
	assert.Nil(t, m.GetCPU().GetPSI().GetFull())
	assert.EqualValues(t, 9, m.GetMemory().GetUsage())
	assert.EqualValues(t, uint64(math.MaxUint64), m.GetMemory().GetUsageLimit())
	assert.EqualValues(t, 4, m.GetMemory().GetSwapLimit())
	assert.EqualValues(t, 3, m.GetMemory().GetWorkingsetRefault())
	assert.EqualValues(t, 6, m.GetMemoryEvents().GetOomKill())
	assert.Nil(t, m.GetMemory().GetPSI())
	assert.EqualValues(t, 11, m.GetIo().GetUsage()[0].GetRbytes())
	assert.EqualValues(t, 12, m.GetIo().GetUsage()[0].GetWios())
	assert.EqualValues(t, 16, m.GetIo().GetUsage()[0].GetMinor())
	assert.EqualValues(t, 10, m.GetPids().GetLimit())
	assert.EqualValues(t, uint32(math.MaxUint32), m.GetRdma().GetCurrent()[0].GetHcaHandles())
	for i, want := range []string{"2MB", "1GB", "64KB"} {
		assert.Equal(t, want, m.GetHugetlb()[i].GetPagesize())
	}
}

func TestFromNothing(t *testing.T) {
	b, err := json.Marshal(metrics.FromStats(&cgroups.Stats{}))
	require.NoError(t, err)
	assert.JSONEq(t, "{}", string(b), "what was not read is not there")
}
