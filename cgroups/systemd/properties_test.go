// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProperties(t *testing.T) {
	disk := cgroups.Device{Major: 254, Minor: 16}
	for _, c := range []struct {
		name string
		r    cgroups.Resources
		want map[string]any
	}{
		{"nothing", cgroups.Resources{}, map[string]any{}},
		{
			"numbers", cgroups.Resources{
				CPU:    cgroups.CPU{Weight: cgroups.WeightOf(50), Max: cgroups.Quota(30*time.Millisecond, 20*time.Millisecond)},
				CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 9), Mems: cgroups.SetOf(0)},
				Memory: cgroups.Memory{
					Max: cgroups.Bytes(1 << 20), High: cgroups.Bytes(2), Low: cgroups.Bytes(3),
					Min: cgroups.Bytes(4), Swap: cgroups.Bytes(0),
				},
				PIDs: cgroups.PIDs{Max: cgroups.Count(7)},
				IO: cgroups.IO{Weight: cgroups.WeightOf(10), Devices: []cgroups.IODevice{{
					Device: disk, ReadBytes: cgroups.Count(5), WriteOps: cgroups.Max(), Weight: cgroups.WeightOf(6),
					Latency: cgroups.DurationOf(time.Millisecond),
				}}},
			},
			map[string]any{
				"CPUWeight": uint64(50), "CPUQuotaPerSecUSec": uint64(1500000), "CPUQuotaPeriodUSec": uint64(20000),
				"AllowedCPUs": []byte{1, 2}, "AllowedMemoryNodes": []byte{1},
				"MemoryMax": uint64(1 << 20), "MemoryHigh": uint64(2), "MemoryLow": uint64(3), "MemoryMin": uint64(4),
				"MemorySwapMax": uint64(0), "TasksMax": uint64(7), "IOWeight": uint64(10),
				"IOReadBandwidthMax":        []deviceValue{{"/dev/block/254:16", 5}},
				"IOWriteIOPSMax":            []deviceValue{{"/dev/block/254:16", math.MaxUint64}},
				"IODeviceWeight":            []deviceValue{{"/dev/block/254:16", 6}},
				"IODeviceLatencyTargetUSec": []deviceValue{{"/dev/block/254:16", 1000}},
			},
		},
		{
			"unlimited and default", cgroups.Resources{
				CPU:    cgroups.CPU{Weight: cgroups.DefaultWeight(), Max: cgroups.NoQuota()},
				CPUSet: cgroups.CPUSet{CPUs: cgroups.DefaultSet()},
				Memory: cgroups.Memory{Max: cgroups.Max(), High: cgroups.Default(), Low: cgroups.Default(), Min: cgroups.Max()},
			},
			map[string]any{
				"CPUWeight": uint64(math.MaxUint64), "CPUQuotaPerSecUSec": uint64(math.MaxUint64),
				"CPUQuotaPeriodUSec": uint64(math.MaxUint64), "AllowedCPUs": []byte{},
				"MemoryMax": uint64(math.MaxUint64), "MemoryHigh": uint64(math.MaxUint64),
				"MemoryLow": uint64(0), "MemoryMin": uint64(math.MaxUint64),
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, c.r.Validate())
			list, err := properties(c.r)
			require.NoError(t, err)
			got := make(map[string]any)
			for _, p := range list {
				assert.NotContains(t, got, p.Name)
				got[p.Name] = p.Value.Value()
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestNoProperty(t *testing.T) {
	disk := cgroups.Device{Major: 8}
	for _, r := range []cgroups.Resources{
		{CPU: cgroups.CPU{Burst: cgroups.DurationOf(time.Millisecond)}},
		{CPU: cgroups.CPU{Idle: cgroups.On}},
		{Memory: cgroups.Memory{SwapHigh: cgroups.Bytes(1)}},
		{Memory: cgroups.Memory{OOMGroup: cgroups.Off}},
		{IO: cgroups.IO{Priority: cgroups.IOPriorityIdle}},
		{HugeTLB: []cgroups.HugeTLB{{PageSize: 2 << 20, Max: cgroups.Bytes(0)}}},
		{RDMA: []cgroups.RDMA{{Device: "mlx5_0", Handles: cgroups.Count(1)}}},
		{Misc: []cgroups.Misc{{Name: "sev", Max: cgroups.Count(1)}}},
		{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: disk, Weight: cgroups.DefaultWeight()}}}},
		{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: disk, Latency: cgroups.DefaultDuration()}}}},
	} {
		list, err := properties(r)
		assert.ErrorIs(t, err, cgroups.ErrNotSupported, "%+v", r)
		assert.Nil(t, list)
	}
}

// systemd keeps a quota of each second and computes the period's again.
func TestQuotaThatSystemdWouldRound(t *testing.T) {
	_, err := properties(cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.Quota(1001*time.Microsecond, 999983*time.Microsecond)}})
	assert.NoError(t, err, "rounding up and down again is exact for periods up to a second")
	for quota := time.Millisecond; quota < 100*time.Millisecond; quota += 97 * time.Microsecond {
		_, err := properties(cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.Quota(quota, 33333*time.Microsecond)}})
		assert.NoError(t, err, quota)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"agent.service": true, `a\x2db@c.service`: true, "agent-work.slice": true, "-.slice": true, "a:b_c.service": true,
		"": false, ".service": false, "agent": false, "agent.timer": false, "a/b.service": false, "../a.service": false,
		"a b.service": false, "a\n.service": false, "a\x00.service": false, "ä.service": false, "@a.service": false,
		"a@.service": false, "-a.slice": false, "a--b.slice": false, "a-.slice": false,
		strings.Repeat("a", 248) + ".service": false, strings.Repeat("a", 247) + ".service": true,
	} {
		err := checkName("name", name, ".service", ".slice")
		assert.Equal(t, ok, err == nil, "%q: %v", name, err)
		if err != nil {
			assert.ErrorIs(t, err, cgroups.ErrInvalid)
		}
	}
	assert.Error(t, checkName("name", "a.slice", ".service"))
}

func FuzzCheckName(f *testing.F) {
	f.Add("agent.service")
	f.Add("a-b.slice")
	f.Add("../x.service")
	f.Fuzz(func(t *testing.T, name string) {
		if checkName("name", name, ".service", ".slice") == nil {
			assert.NotContains(t, name, "/")
			assert.NotEqual(t, ".", name[:1])
			assert.LessOrEqual(t, len(name), maxName)
		}
	})
}
