// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/runtimespec"
	"github.com/caisson-run/caisson/internal/testutil"
)

func ptr[T any](v T) *T { return &v }

func cpu(c specs.LinuxCPU) *specs.LinuxResources       { return &specs.LinuxResources{CPU: &c} }
func memory(m specs.LinuxMemory) *specs.LinuxResources { return &specs.LinuxResources{Memory: &m} }
func pids(n int64) *specs.LinuxResources {
	return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
}
func block(b specs.LinuxBlockIO) *specs.LinuxResources { return &specs.LinuxResources{BlockIO: &b} }
func unified(kv ...string) *specs.LinuxResources {
	s := &specs.LinuxResources{Unified: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		s.Unified[kv[i]] = kv[i+1]
	}
	return s
}

// TestSharesAsPublished are the figures of runc's and opencontainers/cgroups'
// tests, of crun's manual and of the Kubernetes announcement of the formula.
// The linear formula of KEP-2254, which they replace, gave 1024 shares weight 39;
// who reads weights back by it is wrong (dotnet-5323, datadog-agent-43760).
func TestSharesAsPublished(t *testing.T) {
	for shares, weight := range map[uint64]uint16{
		1: 1, 2: 1, 3: 2, 102: 17, 1024: 100, 262143: 10000, 262144: 10000, 262145: 10000,
	} {
		r, left, err := runtimespec.FromSpec(cpu(specs.LinuxCPU{Shares: &shares}))
		require.NoError(t, err)
		assert.Empty(t, left)
		assert.Equal(t, cgroups.WeightOf(weight), r.CPU.Weight, "%d shares", shares)
	}
}

func TestFromSpec(t *testing.T) {
	d := cgroups.Device{Major: 8, Minor: 16}
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	rate := func(n uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: n}}
	}
	for name, c := range map[string]struct {
		spec *specs.LinuxResources
		want cgroups.Resources
		left string
	}{
		"nothing": {spec: nil},
		"empty":   {spec: &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}, BlockIO: &specs.LinuxBlockIO{}}},
		"quota and period": {
			spec: cpu(specs.LinuxCPU{Quota: ptr[int64](25000), Period: ptr[uint64](50000)}),
			want: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.Quota(25*time.Millisecond, 50*time.Millisecond)}},
		},
		"quota alone": {
			spec: cpu(specs.LinuxCPU{Quota: ptr[int64](150000)}),
			want: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(1.5)}},
		},
		"period alone": {spec: cpu(specs.LinuxCPU{Period: ptr[uint64](50000)}), left: "cpu.period 50000: it limits nothing without a quota"},
		"no quota": {
			spec: cpu(specs.LinuxCPU{Quota: ptr[int64](-1)}),
			want: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}},
		},
		"the default bandwidth": {
			spec: cpu(specs.LinuxCPU{Quota: ptr[int64](-1), Period: ptr[uint64](100000)}),
			want: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.DefaultBandwidth()}},
		},
		"zeros of docker": {
			spec: cpu(specs.LinuxCPU{Shares: ptr[uint64](0), Quota: ptr[int64](0), Period: ptr[uint64](0)}),
			left: "cpu.shares 0: runtimes take 0 for a limit that is not set|cpu.quota 0: runtimes take 0 for a limit that is not set|cpu.period 0: runtimes take 0 for a limit that is not set",
		},
		"burst, idle and sets": {
			spec: cpu(specs.LinuxCPU{Burst: ptr[uint64](0), Idle: ptr[int64](1), Cpus: "0-1,3", Mems: "0"}),
			want: cgroups.Resources{
				CPU:    cgroups.CPU{Burst: cgroups.DurationOf(0), Idle: cgroups.On},
				CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1, 3), Mems: cgroups.SetOf(0)},
			},
		},
		"real time": {spec: cpu(specs.LinuxCPU{RealtimeRuntime: ptr[int64](5)}), left: "cpu.realtimeRuntime 5: only cgroup v1 has it"},
		"memory and swap": { // runc#2410: swap without a limit of its own must not become 0
			spec: memory(specs.LinuxMemory{Limit: ptr[int64](1 << 30), Swap: ptr[int64](3 << 30), Reservation: ptr[int64](1 << 20)}),
			want: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 30), Swap: cgroups.Bytes(2 << 30), Low: cgroups.Bytes(1 << 20)}},
		},
		"memory without swap": {
			spec: memory(specs.LinuxMemory{Limit: ptr[int64](1 << 30), Swap: ptr[int64](1 << 30)}),
			want: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 30), Swap: cgroups.Bytes(0)}},
		},
		"memory alone": { // runc#4357: what is not named stays
			spec: memory(specs.LinuxMemory{Limit: ptr[int64](1 << 30)}),
			want: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 30)}},
		},
		"all unlimited": { // containerd/cgroups makes -1 of the first and refuses the second
			spec: memory(specs.LinuxMemory{Limit: ptr[int64](-1), Swap: ptr[int64](-1)}),
			want: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Max(), Swap: cgroups.Max()}},
		},
		"a limit, and all swap": { // containerd/cgroups makes -67108865 of it
			spec: memory(specs.LinuxMemory{Limit: ptr[int64](64 << 20), Swap: ptr[int64](-1)}),
			want: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20), Swap: cgroups.Max()}},
		},
		"defaults of memory": {
			spec: memory(specs.LinuxMemory{DisableOOMKiller: ptr(false), UseHierarchy: ptr(true), CheckBeforeUpdate: ptr(true)}),
		},
		"v1's memory": {
			spec: memory(specs.LinuxMemory{Swappiness: ptr[uint64](60), DisableOOMKiller: ptr(true), KernelTCP: ptr[int64](1)}),
			left: "memory.kernelTCP 1: only cgroup v1 has it|memory.swappiness 60: only cgroup v1 has it|memory.disableOOMKiller true: only cgroup v1 has it, and it makes processes hang",
		},
		"pids":    {spec: pids(0), want: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(0)}}},
		"no pids": {spec: pids(-1), want: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Max()}}},
		"block io": { // containerd/cgroups overflows on weights from 17 up
			spec: block(specs.LinuxBlockIO{
				Weight: ptr[uint16](500), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: ptr[uint16](100), LeafWeight: ptr[uint16](1)}},
				ThrottleReadBpsDevice: rate(1 << 20), ThrottleWriteIOPSDevice: rate(0), ThrottleWriteBpsDevice: rate(math.MaxUint64),
			}),
			want: cgroups.Resources{IO: cgroups.IO{Weight: cgroups.WeightOf(4500), Devices: []cgroups.IODevice{{
				Device: d, Weight: cgroups.WeightOf(100), ReadBytes: cgroups.Bytes(1 << 20), WriteBytes: cgroups.Max(), WriteOps: cgroups.Max(),
			}}}},
			left: "blockIO.weightDevice[0].leafWeight 1: the cfq scheduler had it, until Linux 5.0",
		},
		"huge pages": {
			spec: &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1 << 22}, {Pagesize: "1GB", Limit: math.MaxUint64}}},
			want: cgroups.Resources{HugeTLB: []cgroups.HugeTLB{
				{PageSize: 2 << 20, Max: cgroups.Bytes(1 << 22), Reserved: cgroups.Bytes(1 << 22)},
				{PageSize: 1 << 30, Max: cgroups.Max(), Reserved: cgroups.Max()},
			}},
		},
		"rdma": {
			spec: &specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx4_0": {HcaHandles: ptr[uint32](3)}, "mlx4_1": {}}},
			want: cgroups.Resources{RDMA: []cgroups.RDMA{{Device: "mlx4_0", Handles: cgroups.Count(3)}}},
		},
		"network": {
			spec: &specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr[uint32](7), Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 2}}}},
			left: "network.classID 7: only cgroup v1 has it|network.priorities lo 2: only cgroup v1 has it",
		},
		"unified": {
			spec: unified("memory.high", "1048576", "memory.swap.max", "max", "memory.oom.group", "1\n", "cpu.max", "max 50000",
				"io.weight", "default 200\n8:16 300", "io.max", "8:16 rbps=5 wiops=max", "hugetlb.2MB.rsvd.max", "0", "cpuset.cpus", ""),
			want: cgroups.Resources{
				CPU: cgroups.CPU{Max: cgroups.NoQuota()}, CPUSet: cgroups.CPUSet{CPUs: cgroups.DefaultSet()},
				Memory:  cgroups.Memory{High: cgroups.Bytes(1 << 20), Swap: cgroups.Max(), OOMGroup: cgroups.On},
				HugeTLB: []cgroups.HugeTLB{{PageSize: 2 << 20, Reserved: cgroups.Bytes(0)}},
				IO: cgroups.IO{Weight: cgroups.WeightOf(200), Devices: []cgroups.IODevice{{
					Device: d, Weight: cgroups.WeightOf(300), ReadBytes: cgroups.Bytes(5), WriteOps: cgroups.Max(),
				}}},
			},
		},
		"unified, unknown here": {
			spec: unified("memory.swap.peak", "1", "memory.reclaim", "1G", "hugetlb.3MB.max", "1", "cpu.uclamp.min", "5"),
			left: "unified.cpu.uclamp.min 5: there is no such knob here|unified.hugetlb.3MB.max 1: there is no such knob here|unified.memory.reclaim 1G: there is no such knob here|unified.memory.swap.peak 1: there is no such knob here",
		},
		"unified, said twice": {
			spec: &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr[uint64](1024)}, Unified: map[string]string{"cpu.weight": "100"}},
			want: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(100)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, left, err := runtimespec.FromSpec(c.spec)
			require.NoError(t, err)
			assert.True(t, c.want.Equal(r), "%+v", r)
			var words []string
			for _, l := range left {
				words = append(words, l.String())
			}
			assert.Equal(t, c.left, strings.Join(words, "|"))
		})
	}
}

// What is no limit, or would be a file of another's, is refused by its name (fault 60,
// the "unified" map).
func TestFromSpecRefuses(t *testing.T) {
	dev := func(major, minor int64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: major, Minor: minor}, Rate: 1}}
	}
	for name, c := range map[string]struct {
		spec  *specs.LinuxResources
		field string
	}{
		"a quota below -1":          {cpu(specs.LinuxCPU{Quota: ptr[int64](-2)}), "cpu.quota"},
		"a quota below 1 ms":        {cpu(specs.LinuxCPU{Quota: ptr[int64](999)}), "cpu.quota"},
		"a quota that overflows":    {cpu(specs.LinuxCPU{Quota: ptr[int64](math.MaxInt64)}), "cpu.quota"},
		"a period that overflows":   {cpu(specs.LinuxCPU{Quota: ptr[int64](5000), Period: ptr[uint64](math.MaxUint64)}), "cpu.period"},
		"a burst that overflows":    {cpu(specs.LinuxCPU{Burst: ptr[uint64](math.MaxUint64)}), "cpu.burst"},
		"a burst above the quota":   {cpu(specs.LinuxCPU{Quota: ptr[int64](5000), Burst: ptr[uint64](6000)}), "cpu.max.burst"},
		"idle":                      {cpu(specs.LinuxCPU{Idle: ptr[int64](2)}), "cpu.idle"},
		"idle with shares":          {cpu(specs.LinuxCPU{Idle: ptr[int64](1), Shares: ptr[uint64](5)}), "cpu.weight"},
		"a set":                     {cpu(specs.LinuxCPU{Cpus: "0-"}), "cpu.cpus"},
		"memory below -1":           {memory(specs.LinuxMemory{Limit: ptr[int64](-2)}), "memory.limit"},
		"memory that overflows":     {memory(specs.LinuxMemory{Limit: ptr[int64](math.MaxInt64)}), "memory.max"},
		"swap without a limit":      {memory(specs.LinuxMemory{Swap: ptr[int64](5)}), "memory.swap"},
		"swap below the limit":      {memory(specs.LinuxMemory{Limit: ptr[int64](9 << 20), Swap: ptr[int64](8 << 20)}), "memory.swap"},
		"swap below -1":             {memory(specs.LinuxMemory{Limit: ptr[int64](9 << 20), Swap: ptr[int64](math.MinInt64)}), "memory.swap"},
		"pids below -1":             {pids(-5), "pids.limit"},
		"too many pids":             {pids(1 << 40), "pids.max"},
		"a weight":                  {block(specs.LinuxBlockIO{Weight: ptr[uint16](1001)}), "blockIO.weight"},
		"a device":                  {block(specs.LinuxBlockIO{ThrottleReadBpsDevice: dev(-1, 0)}), "blockIO.throttleReadBpsDevice[0]"},
		"a device that wraps":       {block(specs.LinuxBlockIO{ThrottleReadBpsDevice: dev(1<<32+8, 0)}), "blockIO.throttleReadBpsDevice[0]"},
		"a device that cannot be":   {block(specs.LinuxBlockIO{ThrottleReadBpsDevice: dev(1<<20, 0)}), "io"},
		"a device twice":            {block(specs.LinuxBlockIO{ThrottleReadBpsDevice: append(dev(8, 0), dev(8, 0)...)}), "blockIO.throttleReadBpsDevice[1]"},
		"a page size":               {&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB"}}}, "hugepageLimits[0]"},
		"a page size that is path":  {&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, "hugepageLimits[0]"},
		"a page size twice":         {&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}, {Pagesize: "2MB"}}}, "hugetlb"},
		"an rdma device":            {&specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a b": {HcaHandles: ptr[uint32](1)}}}, "rdma.max"},
		"unified, a path":           {unified("../memory.max", "1"), "unified.../memory.max"},
		"unified, a process":        {unified("cgroup.procs", "1"), "unified.cgroup.procs"},
		"unified, the controllers":  {unified("cgroup.subtree_control", "-memory"), "unified.cgroup.subtree_control"},
		"unified, a v1 file":        {unified("release_agent", "/bin/sh"), "unified.release_agent"},
		"unified, a second line":    {unified("memory.max", "5\n6"), "unified.memory.max"},
		"unified, with a unit":      {unified("memory.max", "5M"), "unified.memory.max"},
		"unified, our own word":     {unified("memory.max", "default"), "unified.memory.max"},
		"unified, no limit":         {unified("memory.max", ""), "unified.memory.max"},
		"unified, said otherwise":   {&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr[int64](5)}, Unified: map[string]string{"pids.max": "6"}}, "unified.pids.max"},
		"unified, two lines of one": {unified("io.max", "8:0 rbps=1\n8:0 wbps=1"), "unified.io.max"},
		"unified, a field twice":    {unified("io.max", "8:0 rbps=1 rbps=2"), "unified.io.max"},
		"devices, all but one":      {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}, {Type: "c", Major: ptr[int64](1)}}}, "devices[1]"},
		"devices, part of a rule":   {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "r"}, {Type: "c", Major: ptr[int64](1), Access: "r"}}}, "devices[1]"},
		"devices, an access":        {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "x"}}}, "devices[0]"},
		"devices, a type":           {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "p", Access: "r"}}}, "devices[0]"},
		"devices, all of a number":  {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "a", Major: ptr[int64](1)}}}, "devices[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			r, left, err := runtimespec.FromSpec(c.spec)
			require.ErrorIs(t, err, cgroups.ErrInvalid)
			assert.True(t, r.IsZero())
			assert.Empty(t, left)
			var e *cgroups.InvalidError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.field, e.Field, "%v", err)
		})
	}
}

// TestDevices plays the rules that docker and runc give.
func TestDevices(t *testing.T) {
	n := ptr[int64]
	null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(1), Minor: n(3), Access: "rwm"}
	for name, c := range map[string]struct {
		rules []specs.LinuxDeviceCgroup
		want  string
	}{
		"none":              {nil, ""},
		"deny all":          {[]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, "none"},
		"allow all":         {[]specs.LinuxDeviceCgroup{null, {Allow: true, Type: "a", Major: n(-1), Minor: n(-1), Access: "rwm"}}, "all"},
		"deny, then allow":  {[]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, null, {Allow: true, Type: "b", Major: n(8), Access: "r"}}, "c 1:3 rwm,b 8:* r"},
		"allow, then deny":  {[]specs.LinuxDeviceCgroup{null, {Allow: false}}, "none"},
		"an access is lost": {[]specs.LinuxDeviceCgroup{null, {Type: "c", Major: n(1), Minor: n(3), Access: "m"}}, "c 1:3 rw"},
		"a device is lost":  {[]specs.LinuxDeviceCgroup{null, {Type: "c", Access: "rwm"}}, "none"},
		"another is denied": {[]specs.LinuxDeviceCgroup{null, {Type: "b", Access: "rwm"}, {Type: "c", Major: n(5), Access: "r"}}, "c 1:3 rwm"},
	} {
		t.Run(name, func(t *testing.T) {
			r, left, err := runtimespec.FromSpec(&specs.LinuxResources{Devices: c.rules})
			require.NoError(t, err)
			assert.Empty(t, left)
			assert.Equal(t, c.want, r.Devices.String())
		})
	}
}

// TestRoundTrip holds that ToSpec loses nothing that the kernel keeps, for any
// resources.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	rounds := 3000
	if testutil.Emulated() {
		rounds = 300
	}
	for range rounds {
		r := random(rng)
		spec, left, err := runtimespec.ToSpec(r)
		if errors.Is(err, cgroups.ErrInvalid) {
			continue
		}
		require.NoError(t, err)
		back, more, err := runtimespec.FromSpec(spec)
		require.NoError(t, err, "%s", asJSON(spec))
		require.Empty(t, more)
		want := resolved(r)
		for _, l := range left {
			require.Contains(t, []string{"cpuset.cpus", "cpuset.mems"}, l.Field)
		}
		require.True(t, want.Equal(resolved(back)), "%s\n%s\n%s", asJSON(want), asJSON(spec), asJSON(back))
	}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// resolved is r with the kernel's default in the place of each "default", and
// without sets that are the parent's.
func resolved(r cgroups.Resources) cgroups.Resources {
	r = r.Clone()
	limit := func(l *cgroups.Limit, def cgroups.Limit) {
		if l.IsDefault() {
			*l = def
		}
	}
	weight := func(w *cgroups.Weight) {
		if w.IsDefault() {
			*w = cgroups.WeightOf(100)
		}
	}
	duration := func(d *cgroups.Duration) {
		if d.IsDefault() {
			*d = cgroups.DurationOf(0)
		}
	}
	weight(&r.CPU.Weight)
	weight(&r.IO.Weight)
	duration(&r.CPU.Burst)
	for _, l := range []*cgroups.Limit{&r.Memory.Max, &r.Memory.High, &r.Memory.Swap, &r.Memory.SwapHigh, &r.PIDs.Max} {
		limit(l, cgroups.Max())
	}
	limit(&r.Memory.Low, cgroups.Bytes(0))
	limit(&r.Memory.Min, cgroups.Bytes(0))
	for i := range r.IO.Devices {
		d := &r.IO.Devices[i]
		for _, l := range []*cgroups.Limit{&d.ReadBytes, &d.WriteBytes, &d.ReadOps, &d.WriteOps} {
			limit(l, cgroups.Max())
		}
		duration(&d.Latency)
	}
	for i := range r.HugeTLB {
		limit(&r.HugeTLB[i].Max, cgroups.Max())
		limit(&r.HugeTLB[i].Reserved, cgroups.Max())
	}
	for i := range r.RDMA {
		limit(&r.RDMA[i].Handles, cgroups.Max())
		limit(&r.RDMA[i].Objects, cgroups.Max())
	}
	for i := range r.Misc {
		limit(&r.Misc[i].Max, cgroups.Max())
	}
	if r.CPUSet.CPUs.IsDefault() {
		r.CPUSet.CPUs = cgroups.Set{}
	}
	if r.CPUSet.Mems.IsDefault() {
		r.CPUSet.Mems = cgroups.Set{}
	}
	return r
}

// random are resources with a third of all knobs.
func random(rng *rand.Rand) (r cgroups.Resources) {
	limit := func(most uint64) cgroups.Limit {
		return [...]cgroups.Limit{{}, {}, {}, cgroups.Max(), cgroups.Default(), cgroups.Count(rng.Uint64N(most)), cgroups.Count(0)}[rng.IntN(7)]
	}
	rate := func() cgroups.Limit {
		return [...]cgroups.Limit{{}, {}, cgroups.Max(), cgroups.Default(), cgroups.Count(1 + rng.Uint64N(1<<31))}[rng.IntN(5)]
	}
	weight := func() cgroups.Weight {
		return [...]cgroups.Weight{{}, {}, cgroups.DefaultWeight(), cgroups.WeightOf(uint16(1 + rng.IntN(10000)))}[rng.IntN(4)]
	}
	set := func() cgroups.Set {
		return [...]cgroups.Set{{}, {}, cgroups.DefaultSet(), cgroups.SetOf(0, 2, rng.IntN(9))}[rng.IntN(4)]
	}
	duration := func() cgroups.Duration {
		return [...]cgroups.Duration{{}, {}, cgroups.DefaultDuration(), cgroups.DurationOf(time.Duration(rng.IntN(1000)) * time.Microsecond)}[rng.IntN(4)]
	}
	onOff := func() cgroups.Switch { return cgroups.Switch(rng.IntN(3)) }
	r.CPU.Weight, r.CPU.Burst, r.CPU.Idle = weight(), duration(), onOff()
	r.CPU.Max = [...]cgroups.Bandwidth{{}, cgroups.NoQuota(), cgroups.DefaultBandwidth(), cgroups.CPUs(0.01 + 4*rng.Float64())}[rng.IntN(4)]
	r.CPUSet = cgroups.CPUSet{CPUs: set(), Mems: set(), Partition: cgroups.Partition(rng.IntN(4))}
	const most = 1 << 62
	r.Memory = cgroups.Memory{Max: limit(most), High: limit(most), Low: limit(most), Min: limit(most), Swap: limit(most), SwapHigh: limit(most), OOMGroup: onOff()}
	r.PIDs.Max = limit(1 << 22)
	r.IO.Weight = weight()
	for minor := range uint32(rng.IntN(3)) {
		d := cgroups.IODevice{
			Device: cgroups.Device{Major: 8, Minor: minor}, Weight: weight(), Latency: duration(),
			ReadBytes: rate(), WriteBytes: rate(), ReadOps: rate(), WriteOps: rate(),
		}
		if d != (cgroups.IODevice{Device: d.Device}) {
			r.IO.Devices = append(r.IO.Devices, d)
		}
	}
	if h := (cgroups.HugeTLB{PageSize: 2 << 20, Max: limit(most), Reserved: limit(most)}); !h.Max.IsZero() || !h.Reserved.IsZero() {
		r.HugeTLB = append(r.HugeTLB, h)
	}
	if d := (cgroups.RDMA{Device: "mlx5_0", Handles: limit(1 << 30), Objects: limit(1 << 30)}); !d.Handles.IsZero() || !d.Objects.IsZero() {
		r.RDMA = append(r.RDMA, d)
	}
	if m := (cgroups.Misc{Name: "sev", Max: limit(1 << 40)}); !m.Max.IsZero() {
		r.Misc = append(r.Misc, m)
	}
	r.Devices = [...]cgroups.Devices{{}, cgroups.AllDevices(), cgroups.AllowDevices(), cgroups.DefaultDevices()}[rng.IntN(4)]
	return r
}

// FuzzFromSpec holds that whatever is taken is valid, names what it leaves, and
// survives the way back.
func FuzzFromSpec(f *testing.F) {
	for _, s := range []string{
		`{"cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},"memory":{"limit":1048576,"swap":2097152},"pids":{"limit":-1}}`,
		`{"unified":{"memory.high":"max","io.max":"8:0 rbps=1 wbps=max","cpu.max":"1000 5000","misc.max":"sev 3"}}`,
		`{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}],"hugepageLimits":[{"pageSize":"2MB","limit":0}]}`,
		`{"blockIO":{"weight":10,"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":5}]},"rdma":{"a":{"hcaHandles":1}}}`,
		`{"cpu":{"quota":-5},"unified":{"cgroup.procs":"0"}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var spec specs.LinuxResources
		if json.Unmarshal([]byte(text), &spec) != nil {
			return
		}
		r, left, err := runtimespec.FromSpec(&spec)
		if err != nil {
			require.ErrorIs(t, err, cgroups.ErrInvalid)
			require.True(t, r.IsZero())
			require.Empty(t, left)
			return
		}
		require.NoError(t, r.Validate())
		for file := range spec.Unified {
			require.NotContains(t, file, "/")
			require.False(t, strings.HasPrefix(file, "cgroup."))
		}
		out, _, err := runtimespec.ToSpec(r)
		require.NoError(t, err)
		back, _, err := runtimespec.FromSpec(out)
		require.NoError(t, err)
		require.True(t, resolved(r).Equal(resolved(back)), "%s\n%s", asJSON(r), asJSON(back))
	})
}
