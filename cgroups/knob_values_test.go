// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBandwidth(t *testing.T) {
	for text, want := range map[string]Bandwidth{
		"":             {},
		"max":          NoQuota(),
		"default":      DefaultBandwidth(),
		"150ms/100ms":  CPUs(1.5),
		"1.5":          CPUs(1.5),
		"1":            Quota(100*time.Millisecond, 100*time.Millisecond),
		"1ms/1s":       Quota(time.Millisecond, time.Second),
		"333.33ms/1s":  Quota(333330*time.Microsecond, time.Second),
		"0.333333":     Quota(33333*time.Microsecond, 100*time.Millisecond),
		"1h0m0s/100ms": Quota(time.Hour, 100*time.Millisecond),
	} {
		var b Bandwidth
		require.NoError(t, b.UnmarshalText([]byte(text)), text)
		assert.Equal(t, want, b, text)
	}
	for _, text := range []string{"-1", "1e3", "NaN", "Inf", "+1", "1 2", "1ms", "1ms/", "-1ms/1ms", "1ms/0s", "150000 100000", "99999999999999999999", "0x1"} {
		b := CPUs(7)
		require.ErrorIs(t, b.UnmarshalText([]byte(text)), ErrInvalid, text)
		assert.Equal(t, CPUs(7), b, "an error changes nothing")
	}
	for _, n := range []float64{-1, math.NaN(), math.Inf(1), 1e300, -0.0001, 0, 0.001} {
		require.ErrorIs(t, Resources{CPU: CPU{Max: CPUs(n)}}.Validate(), ErrInvalid, "%v", n)
	}
	n, ok := CPUs(0.25).CPUs()
	assert.True(t, ok)
	assert.InDelta(t, 0.25, n, 1e-9)
}

func TestSet(t *testing.T) {
	for list, want := range map[string]string{
		"0": "0", "0-3,8": "0-3,8", "8,0-3": "0-3,8", "1,0,2": "0-2", "0-5,2-3": "0-5", "3,3,3": "3", "0-1,2-4,6": "0-4,6", "1024-2047": "1024-2047",
	} {
		s, err := ParseSet(list)
		require.NoError(t, err, list)
		assert.Equal(t, want, s.String(), list)
	}
	for _, list := range []string{"", ",", "1,", "-1", "3-1", "a", "1-2-3", "0-4294967295", " 1", "1\n", "0-3:1/2", "+1"} {
		s, err := ParseSet(list)
		require.ErrorIs(t, err, ErrInvalid, list)
		assert.Zero(t, s)
	}
	s := SetOf(5, 1, 2000, 2, 1)
	assert.Equal(t, "1-2,5,2000", s.String())
	assert.Equal(t, 4, s.Len())
	assert.True(t, s.Contains(2000))
	assert.False(t, s.Contains(3))
	var all []int
	for n := range s.Each {
		all = append(all, n)
	}
	assert.Equal(t, []int{1, 2, 5, 2000}, all)
	for _, bad := range []Set{SetOf(), SetOf(-1), SetOf(0, 1<<20)} {
		require.ErrorIs(t, Resources{CPUSet: CPUSet{Mems: bad}}.Validate(), ErrInvalid)
	}
}

// TestShares holds the conversion to its published fixed points and to the
// promise that a weight that was set reads back.
func TestShares(t *testing.T) {
	for shares, weight := range map[uint64]uint16{
		0: 1, 2: 1, 3: 2, 10: 4, 100: 17, 512: 59, 1024: 100, 2048: 174, 4096: 303, 10240: 639, 262144: 10000, math.MaxUint64: 10000,
	} {
		assert.Equal(t, weight, weightOfShares(shares), "%d shares", shares)
	}
	assert.Equal(t, uint64(2), sharesOf(1))
	assert.Equal(t, uint64(1024), sharesOf(100))
	assert.Equal(t, uint64(262144), sharesOf(10000))
	for w := uint16(1); w <= 10000; w++ {
		if weightOfShares(sharesOf(w)) != w {
			t.Fatalf("weight %d becomes %d shares, which are weight %d", w, sharesOf(w), weightOfShares(sharesOf(w)))
		}
		if b := bfqWeight(w); b < 1 || b > 1000 || bfqWeight(weightOfBFQ(b)) != b {
			t.Fatalf("weight %d becomes bfq's %d", w, b)
		}
	}
	assert.Equal(t, uint16(100), bfqWeight(100))
	assert.Equal(t, uint16(1000), bfqWeight(10000))

	n, ok := DefaultWeight().Shares()
	assert.True(t, ok)
	assert.Equal(t, uint64(1024), n)
	_, ok = Weight{}.Shares()
	assert.False(t, ok)
	_, ok = Weight{}.BFQ()
	assert.False(t, ok)
	for _, beyond := range []uint16{0, 1001, math.MaxUint16} {
		require.ErrorIs(t, Resources{IO: IO{Weight: WeightOfBFQ(beyond)}}.Validate(), ErrInvalid, "%d", beyond)
	}
}

func TestPageSizes(t *testing.T) {
	for shift := 12; shift <= 40; shift++ {
		name := PageSizeName(1 << shift)
		size, err := ParsePageSize(name)
		require.NoError(t, err, name)
		assert.Equal(t, uint64(1)<<shift, size)
	}
	for _, bad := range []string{"", "2", "MB", "3MB", "02MB", "-2MB", "2mb", "2048KB", "1024MB", "2MB ", "99999999999999999999KB"} {
		size, err := ParsePageSize(bad)
		require.ErrorIs(t, err, ErrInvalid, bad)
		assert.Zero(t, size)
	}
}

func TestDeviceRules(t *testing.T) {
	for _, s := range []string{"c 1:3 rwm", "b 8:* r", "c *:* m", "b *:0 rw", "c 4095:1048575 wm"} {
		r, err := ParseDeviceRule(s)
		require.NoError(t, err, s)
		assert.Equal(t, s, r.String())
	}
	for _, s := range []string{"", "a *:* rwm", "c 1:3", "c 1 r", "c 1:3 x", "c 1:3 rr", "c 1:3 ", "c -1:3 r", "c 1:9999999 r", "c  1:3 r", "c 4096:0 r", "c 1:3 r\n"} {
		r, err := ParseDeviceRule(s)
		require.ErrorIs(t, err, ErrInvalid, s)
		assert.Zero(t, r)
	}
	for _, s := range []string{"8:0", "259:3", "0:0"} {
		d, err := ParseDevice(s)
		require.NoError(t, err)
		assert.Equal(t, s, d.String())
	}
	for _, s := range []string{"", "8", "8:", ":0", "8:0:0", "-1:0", "5000:0", "/dev", "/"} {
		d, err := ParseDevice(s)
		require.Error(t, err, s)
		assert.Zero(t, d)
	}
}

// everything names every knob.
func everything() Resources {
	return Resources{
		CPU:    CPU{Weight: WeightOf(500), Max: CPUs(1.5), Burst: DurationOf(time.Millisecond), Idle: Off},
		CPUSet: CPUSet{CPUs: SetOf(0, 1), Mems: DefaultSet(), Partition: PartitionIsolated},
		Memory: Memory{Max: Bytes(512 << 20), High: Max(), Low: Default(), Min: Bytes(0), Swap: Bytes(4096), SwapHigh: Max(), OOMGroup: On},
		IO: IO{Weight: DefaultWeight(), Devices: []IODevice{{
			Device: Device{8, 0}, Weight: WeightOf(1), ReadBytes: Bytes(1), WriteBytes: Max(), ReadOps: Count(10), WriteOps: Default(),
			Latency: DurationOf(time.Second),
		}}},
		PIDs: PIDs{Max: Count(0)}, HugeTLB: []HugeTLB{{PageSize: 2 << 20, Max: Bytes(2 << 20), Reserved: Max()}},
		RDMA: []RDMA{{Device: "mlx5_0", Handles: Count(1), Objects: Max()}}, Misc: []Misc{{Name: "sev", Max: Count(2)}},
		Devices: DefaultDevices(),
	}
}

func TestResourcesJSON(t *testing.T) {
	r := everything()
	require.NoError(t, r.Validate())
	b, err := json.Marshal(r)
	require.NoError(t, err)
	var back Resources
	require.NoError(t, json.Unmarshal(b, &back))
	require.True(t, r.Equal(back), "%s", b)
	require.Equal(t, r, back)

	b, err = json.Marshal(Resources{})
	require.NoError(t, err)
	require.JSONEq(t, "{}", string(b))
	for _, d := range []Devices{{}, AllDevices(), AllowDevices()} {
		b, err := json.Marshal(Resources{Devices: d})
		require.NoError(t, err)
		var back Resources
		require.NoError(t, json.Unmarshal(b, &back))
		require.True(t, Resources{Devices: d}.Equal(back), "%s", b)
		require.Equal(t, d.IsAll(), back.Devices.IsAll())
	}
	for _, bad := range []string{
		`{"memory":{"max":"1K"}}`, `{"memory":{"max":-1}}`, `{"cpu":{"idle":"yes"}}`, `{"cpu":{"max":"-1"}}`, `{"devices":["x"]}`, `{"devices":"none"}`,
	} {
		require.Error(t, json.Unmarshal([]byte(bad), &back), bad)
	}
}

func TestResourcesValues(t *testing.T) {
	r := everything()
	c := r.Clone()
	require.True(t, r.Equal(c))
	c.IO.Devices[0].Weight = WeightOf(7)
	c.HugeTLB[0].Max = Max()
	c.Devices.rules[0].Access = DeviceRead
	require.True(t, r.Equal(everything()), "a clone shares nothing")
	require.False(t, r.Equal(c))
	require.True(t, Resources{}.IsZero())
	require.True(t, Resources{IO: IO{Devices: []IODevice{{Device: Device{8, 0}}}}, Misc: []Misc{{Name: "sev"}}}.IsZero())
	require.False(t, r.IsZero())
	require.False(t, Resources{Devices: AllowDevices()}.IsZero())

	require.True(t, Resources{}.Merge(r).Equal(r))
	require.True(t, r.Merge(Resources{}).Equal(r))
	require.True(t, r.Merge(r).Equal(r))
	m := r.Merge(Resources{Memory: Memory{Max: Max()}, IO: IO{Devices: []IODevice{{Device: Device{8, 0}, ReadBytes: Max()}, {Device: Device{8, 16}, ReadOps: Count(1)}}}})
	require.Equal(t, Max(), m.Memory.Max)
	require.Equal(t, r.Memory.High, m.Memory.High)
	require.Len(t, m.IO.Devices, 2)
	require.Equal(t, Max(), m.IO.Devices[0].ReadBytes)
	require.Equal(t, Count(10), m.IO.Devices[0].ReadOps)
	require.True(t, r.Equal(everything()), "merging changes nothing")
}

// What no kernel keeps as it is written is refused before anything is (fault 43).
func TestValidateRefuses(t *testing.T) {
	dev := func(d IODevice) Resources { return Resources{IO: IO{Devices: []IODevice{d}}} }
	for field, r := range map[string]Resources{
		"cpu.weight ":           {CPU: CPU{Weight: WeightOf(0)}},
		"cpu.weight":            {CPU: CPU{Weight: WeightOf(10001)}},
		"cpu.weight  ":          {CPU: CPU{Weight: WeightOf(10), Idle: On}},
		"cpu.idle":              {CPU: CPU{Idle: 9}},
		"cpu.max":               {CPU: CPU{Max: Quota(time.Microsecond, time.Second)}},
		"cpu.max ":              {CPU: CPU{Max: Quota(time.Second, 2*time.Second)}},
		"cpu.max  ":             {CPU: CPU{Max: Quota(time.Second+1, time.Second)}},
		"cpu.max   ":            {CPU: CPU{Max: Quota(300*24*time.Hour, time.Second)}},
		"cpu.max.burst":         {CPU: CPU{Max: CPUs(1), Burst: DurationOf(time.Second)}},
		"cpu.max.burst ":        {CPU: CPU{Burst: DurationOf(-1)}},
		"cpuset.cpus":           {CPUSet: CPUSet{CPUs: SetOf()}},
		"cpuset.cpus.partition": {CPUSet: CPUSet{Partition: 9}},
		"memory.max":            {Memory: Memory{Max: Bytes(1 << 63)}},
		"memory.min":            {Memory: Memory{Min: Bytes(math.MaxUint64)}},
		"pids.max":              {PIDs: PIDs{Max: Count(1 << 31)}},
		"io":                    dev(IODevice{}),
		"io ":                   {IO: IO{Devices: []IODevice{{Device: Device{8, 0}}, {Device: Device{8, 0}}}}},
		"io.max 8:0 rbps":       dev(IODevice{Device: Device{8, 0}, ReadBytes: Bytes(0)}),
		"io.max 8:0 wiops":      dev(IODevice{Device: Device{8, 0}, WriteOps: Count(math.MaxUint32)}),
		"io.weight 8:0":         dev(IODevice{Device: Device{8, 0}, Weight: WeightOf(20000)}),
		"io.latency 8:0":        dev(IODevice{Device: Device{8, 0}, Latency: DurationOf(1)}),
		"hugetlb":               {HugeTLB: []HugeTLB{{PageSize: 3 << 20}}},
		"hugetlb ":              {HugeTLB: []HugeTLB{{PageSize: 2 << 20}, {PageSize: 2 << 20}}},
		"rdma.max":              {RDMA: []RDMA{{Device: "a b"}}},
		"misc.max":              {Misc: []Misc{{Name: "x\ny"}}},
		"misc.max ":             {Misc: []Misc{{Name: strings.Repeat("x", 65)}}},
		"devices":               {Devices: AllowDevices(DeviceRule{})},
		"devices ":              {Devices: AllowDevices(DeviceRule{Type: CharDevice, Major: 1, AnyMajor: true, Access: DeviceRead})},
	} {
		err := r.Validate()
		require.ErrorIs(t, err, ErrInvalid, field)
		var e *InvalidError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, strings.TrimSpace(field), e.Field, err.Error())
	}
	err := Resources{CPU: CPU{Weight: WeightOf(0)}, PIDs: PIDs{Max: Count(1 << 31)}}.Validate()
	assert.Len(t, strings.Split(err.Error(), "\n"), 2, "all that is wrong is said")
}

// FuzzResourcesJSON reads anything. What is taken is written and read again the
// same, and what is valid can be planned without a panic.
func FuzzResourcesJSON(f *testing.F) {
	b, err := json.Marshal(everything())
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"cpu":{"max":"1.5"},"cpuset":{"cpus":"8,0-3"},"devices":"all"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Resources
		if json.Unmarshal(b, &r) != nil {
			return
		}
		out, err := json.Marshal(r)
		require.NoError(t, err)
		var back Resources
		require.NoError(t, json.Unmarshal(out, &back), "%s", out)
		require.True(t, r.Equal(back), "%s", out)
		require.True(t, r.Merge(r).Equal(r) || r.Validate() != nil, "%s", out)
		if r.Validate() != nil {
			return
		}
		for version := 1; version <= 2; version++ {
			fake := newFake(t, version)
			changes, err := planOf(fake, r)
			if err != nil {
				require.Empty(t, changes)
			}
		}
	})
}

// FuzzParseSet reads anything. What is taken is in the one form that it is
// written in, and has the members that it says.
func FuzzParseSet(f *testing.F) {
	f.Add("0-3,8")
	f.Add("8,1,2-5,3")
	f.Fuzz(func(t *testing.T, list string) {
		s, err := ParseSet(list)
		if err != nil {
			require.Zero(t, s)
			return
		}
		again, err := ParseSet(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
		n, last := 0, -1
		for m := range s.Each {
			require.Greater(t, m, last)
			last = m
			n++
		}
		require.Equal(t, s.Len(), n)
		require.True(t, s.Contains(last))
		require.False(t, s.Contains(last+1))
	})
}

// FuzzDeviceRule reads anything, and writes what it took as it read it.
func FuzzDeviceRule(f *testing.F) {
	f.Add("c 1:3 rwm")
	f.Add("b *:* m")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseDeviceRule(s)
		if err != nil {
			require.Zero(t, r)
			return
		}
		again, err := ParseDeviceRule(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
