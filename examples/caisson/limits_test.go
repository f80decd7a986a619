// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parseLimits(args ...string) (cgroups.Resources, error) {
	var r cgroups.Resources
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	limitFlags(fs, &r)
	_, _, err := parse(fs, args)
	return r, err
}

func TestLimitFlags(t *testing.T) {
	for args, want := range map[string]cgroups.Resources{
		"":                      {},
		"--cpu-weight 100":      {CPU: cgroups.CPU{Weight: cgroups.WeightOf(100)}},
		"--cpu-weight default":  {CPU: cgroups.CPU{Weight: cgroups.DefaultWeight()}},
		"--cpu-max 0.5":         {CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}},
		"--cpu-max 5ms/20ms":    {CPU: cgroups.CPU{Max: cgroups.Quota(5*time.Millisecond, 20*time.Millisecond)}},
		"--cpu-max max":         {CPU: cgroups.CPU{Max: cgroups.NoQuota()}},
		"--cpu-burst 10ms":      {CPU: cgroups.CPU{Burst: cgroups.DurationOf(10 * time.Millisecond)}},
		"--cpu-idle on":         {CPU: cgroups.CPU{Idle: cgroups.On}},
		"--cpus 0-1,4":          {CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1, 4)}},
		"--mems 0":              {CPUSet: cgroups.CPUSet{Mems: cgroups.SetOf(0)}},
		"--memory-max 64M":      {Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20)}},
		"--memory-high=max":     {Memory: cgroups.Memory{High: cgroups.Max()}},
		"--memory-low 1G":       {Memory: cgroups.Memory{Low: cgroups.Bytes(1 << 30)}},
		"--memory-min 0":        {Memory: cgroups.Memory{Min: cgroups.Bytes(0)}},
		"--memory-swap default": {Memory: cgroups.Memory{Swap: cgroups.Default()}},
		"--oom-group off":       {Memory: cgroups.Memory{OOMGroup: cgroups.Off}},
		"--pids-max 50":         {PIDs: cgroups.PIDs{Max: cgroups.Count(50)}},
		"--io-weight 500":       {IO: cgroups.IO{Weight: cgroups.WeightOf(500)}},
		"--devices none":        {Devices: cgroups.AllowDevices()},
		"--devices all":         {Devices: cgroups.AllDevices()},
		"--devices default":     {Devices: cgroups.DefaultDevices()},
		"--io-max 8:0:rbps=1M":  {IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 8}, ReadBytes: cgroups.Bytes(1 << 20)}}}},
		"--io-max 8:1:riops=9,wbps=max": {IO: cgroups.IO{Devices: []cgroups.IODevice{{
			Device: cgroups.Device{Major: 8, Minor: 1}, ReadOps: cgroups.Count(9), WriteBytes: cgroups.Max(),
		}}}},
	} {
		got, err := parseLimits(strings.Fields(args)...)
		require.NoError(t, err, args)
		assert.True(t, want.Equal(got), "%s: %+v", args, got)
		assert.NoError(t, got.Validate(), args)
	}
	for _, bad := range []string{
		"--cpu-weight -1", "--cpu-weight 1e3", "--cpu-weight 70000", "--cpu-weight max", "--cpu-weight=", "--cpu-max -1",
		"--cpu-max 1/2", "--cpu-max NaN", "--cpu-max Inf", "--cpu-burst 10", "--cpu-burst -1ms", "--cpu-idle yes", "--cpus 1-0",
		"--cpus x", "--cpus=", "--memory-max", "--memory-max=", "--memory-max -1", "--memory-max +1", "--memory-max 1.5M",
		"--memory-max 64m", "--memory-max 64MB", "--memory-max M", "--memory-max 16E", "--memory-max 18446744073709551616",
		"--oom-group 1", "--pids-max 5K", "--pids-max -5", "--io-max 8:0", "--io-max 8:0:", "--io-max rbps=1M",
		"--io-max 8:0:rbps", "--io-max 8:0:rbps=", "--io-max 8:0:bps=1", "--io-max 8:0:rbps=1,rbps=2", "--io-max 8:0:riops=1K",
		"--io-max 8:0:rbps=1 --io-max 8:0:wbps=1", "--io-max :rbps=1", "--io-max /no/such/disk:rbps=1", "--devices x",
		"--devices c", "--nonsense 1",
	} {
		_, err := parseLimits(strings.Fields(bad)...)
		require.Error(t, err, bad)
		assert.NotContains(t, oneLine(err), "\n", bad)
	}
}

// formatSize writes what parseSize reads, as short as it can be exactly.
func formatSize(l cgroups.Limit) string {
	n, ok := l.Value()
	if !ok {
		return l.String()
	}
	suffix := ""
	for i := 0; i < len(sizeSuffixes) && n != 0 && n%1024 == 0; i++ {
		n, suffix = n/1024, sizeSuffixes[i:i+1]
	}
	return strconv.FormatUint(n, 10) + suffix
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, "1K": 1 << 10, "64M": 64 << 20, "3G": 3 << 30, "2T": 2 << 40, "5P": 5 << 50, "15E": 15 << 60,
		"0E": 0, "00012": 12, "18446744073709551615": 1<<64 - 1, "17179869183G": 17179869183 << 30,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, cgroups.Bytes(want), got, text)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"64M", "max", "default", "0", "18446744073709551615", "16E", "17179869184G", "-1", "1.5G", "K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseSize(s)
		if err != nil {
			require.Zero(t, l)
			return
		}
		require.False(t, l.IsZero())
		again, err := parseSize(formatSize(l))
		require.NoError(t, err)
		require.Equal(t, l, again)
	})
}

func formatIOMax(d cgroups.IODevice) string {
	var parts []string
	for _, p := range []struct {
		key string
		cgroups.Limit
	}{{"rbps", d.ReadBytes}, {"wbps", d.WriteBytes}, {"riops", d.ReadOps}, {"wiops", d.WriteOps}} {
		if !p.IsZero() {
			parts = append(parts, p.key+"="+p.String())
		}
	}
	return d.Device.String() + ":" + strings.Join(parts, ",")
}

func FuzzParseIOMax(f *testing.F) {
	for _, s := range []string{"8:0:rbps=1M,wiops=100", "254:16:wbps=max,riops=default", "8:0:rbps=1,rbps=2", "8:0", "::", "1:2:rbps=0"} {
		f.Add(s)
	}
	resolve := func(s string) (d cgroups.Device, err error) {
		err = d.UnmarshalText([]byte(s))
		return d, err
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseIOMax(s, resolve)
		if err != nil {
			require.Zero(t, d)
			return
		}
		again, err := parseIOMax(formatIOMax(d), resolve)
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}
