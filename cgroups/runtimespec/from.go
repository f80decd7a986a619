// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/cgroups"
)

// A Leftover is a value that has no equivalent on the other side.
type Leftover struct {
	Field  string // in the words of where it stands: "memory.swappiness", "cpuset.cpus"
	Value  string
	Reason string
}

// String reads `memory.swappiness 60: only cgroup v1 has it`.
func (l Leftover) String() string { return l.Field + " " + l.Value + ": " + l.Reason }

// FromSpec converts the limits of a runtime specification; nil are none. left is
// what they name besides.
//
// It returns an error that matches [cgroups.ErrInvalid] for values that make no
// sense, each an [cgroups.InvalidError] that names the field, and nothing else
// then.
func FromSpec(spec *specs.LinuxResources) (r cgroups.Resources, left []Leftover, err error) {
	if spec == nil {
		return cgroups.Resources{}, nil, nil
	}
	c := &conversion{}
	if spec.CPU != nil {
		c.cpu(spec.CPU)
	}
	if spec.Memory != nil {
		c.memory(spec.Memory)
	}
	if spec.Pids != nil && spec.Pids.Limit != nil {
		c.r.PIDs.Max = c.amount("pids.limit", *spec.Pids.Limit, cgroups.Count)
	}
	if spec.BlockIO != nil {
		c.blockIO(spec.BlockIO)
	}
	c.hugepages(spec.HugepageLimits)
	c.rdma(spec.Rdma)
	c.network(spec.Network)
	c.devices(spec.Devices)
	c.unified(spec.Unified)
	if len(c.errs) == 0 {
		c.errs = append(c.errs, c.r.Validate())
	}
	if err := errors.Join(c.errs...); err != nil {
		return cgroups.Resources{}, nil, fmt.Errorf("runtime specification: %w", err)
	}
	return c.r, c.left, nil
}

// conversion is one under way.
type conversion struct {
	r    cgroups.Resources
	left []Leftover
	errs []error
}

func (c *conversion) bad(field string, value any, reason string) {
	c.errs = append(c.errs, &cgroups.InvalidError{Field: field, Value: fmt.Sprint(value), Reason: reason})
}

func (c *conversion) leave(field string, value any, reason string) {
	c.left = append(c.left, Leftover{Field: field, Value: fmt.Sprint(value), Reason: reason})
}

// Reasons to leave a value.
const (
	zeroIsUnset = "runtimes take 0 for a limit that is not set"
	onlyOnV1    = "only cgroup v1 has it"
)

// amount is a number, or -1 for no limit.
func (c *conversion) amount(field string, n int64, limit func(uint64) cgroups.Limit) cgroups.Limit {
	switch {
	case n == -1:
		return cgroups.Max()
	case n < 0:
		c.bad(field, n, "negative; -1 lifts the limit")
		return cgroups.Limit{}
	}
	return limit(uint64(n))
}

// bytes is an amount of memory.
func (c *conversion) bytes(field string, n *int64) cgroups.Limit {
	if n == nil {
		return cgroups.Limit{}
	}
	if *n == 0 {
		c.leave(field, 0, zeroIsUnset)
		return cgroups.Limit{}
	}
	return c.amount(field, *n, cgroups.Bytes)
}

const mostMicros = 1<<44 - 1 // the kernel's largest quota

func micros(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

func (c *conversion) cpu(s *specs.LinuxCPU) {
	if s.Shares != nil {
		if *s.Shares == 0 {
			c.leave("cpu.shares", 0, zeroIsUnset)
		} else {
			c.r.CPU.Weight = cgroups.WeightOfShares(*s.Shares)
		}
	}
	c.bandwidth(s.Quota, s.Period)
	if s.Burst != nil {
		if *s.Burst > mostMicros {
			c.bad("cpu.burst", *s.Burst, "above "+strconv.Itoa(mostMicros))
		} else {
			c.r.CPU.Burst = cgroups.DurationOf(micros(*s.Burst))
		}
	}
	if s.Idle != nil {
		switch *s.Idle {
		case 0, 1:
			c.r.CPU.Idle = cgroups.SwitchOf(*s.Idle == 1)
		default:
			c.bad("cpu.idle", *s.Idle, "neither 0 nor 1")
		}
	}
	c.r.CPUSet.CPUs = c.set("cpu.cpus", s.Cpus)
	c.r.CPUSet.Mems = c.set("cpu.mems", s.Mems)
	if s.RealtimeRuntime != nil {
		c.leave("cpu.realtimeRuntime", *s.RealtimeRuntime, onlyOnV1)
	}
	if s.RealtimePeriod != nil {
		c.leave("cpu.realtimePeriod", *s.RealtimePeriod, onlyOnV1)
	}
}

const defaultPeriod = 100000 // microseconds

func (c *conversion) bandwidth(quota *int64, period *uint64) {
	if quota != nil && *quota == 0 {
		c.leave("cpu.quota", 0, zeroIsUnset)
		quota = nil
	}
	if period != nil && *period == 0 {
		c.leave("cpu.period", 0, zeroIsUnset)
		period = nil
	}
	length := uint64(defaultPeriod)
	if period != nil {
		length = *period
	}
	switch {
	case length < 1000 || length > 1000000:
		c.bad("cpu.period", length, "not in 1000 to 1000000")
	case quota == nil && period != nil:
		c.leave("cpu.period", length, "it limits nothing without a quota")
	case quota == nil:
	case *quota == -1 && period == nil:
		c.r.CPU.Max = cgroups.NoQuota()
	case *quota == -1 && length == defaultPeriod:
		c.r.CPU.Max = cgroups.DefaultBandwidth()
	case *quota == -1:
		c.r.CPU.Max = cgroups.NoQuota()
		c.leave("cpu.period", length, "it limits nothing without a quota")
	case *quota < 1000 || *quota > mostMicros:
		c.bad("cpu.quota", *quota, "not in 1000 to "+strconv.Itoa(mostMicros)+"; -1 lifts the limit")
	default:
		c.r.CPU.Max = cgroups.Quota(micros(uint64(*quota)), micros(length))
	}
}

func (c *conversion) set(field, list string) cgroups.Set {
	if list == "" {
		return cgroups.Set{}
	}
	s, err := cgroups.ParseSet(list)
	if err != nil {
		c.bad(field, list, "not a list such as 0-3,8")
	}
	return s
}

func (c *conversion) memory(s *specs.LinuxMemory) {
	c.r.Memory.Max = c.bytes("memory.limit", s.Limit)
	c.r.Memory.Low = c.bytes("memory.reservation", s.Reservation)
	c.r.Memory.Swap = c.swap(s)
	//lint:ignore SA1019 it is deprecated, and must not be dropped in silence
	if n := s.Kernel; n != nil {
		c.leave("memory.kernel", *n, "the kernel has no such limit any more")
	}
	if s.KernelTCP != nil {
		c.leave("memory.kernelTCP", *s.KernelTCP, onlyOnV1)
	}
	if s.Swappiness != nil {
		c.leave("memory.swappiness", *s.Swappiness, onlyOnV1)
	}
	// false is what holds without these two, and true without the third.
	if s.DisableOOMKiller != nil && *s.DisableOOMKiller {
		c.leave("memory.disableOOMKiller", true, onlyOnV1+", and it makes processes hang")
	}
	if s.UseHierarchy != nil && !*s.UseHierarchy {
		c.leave("memory.useHierarchy", false, "memory is always accounted to the parents too")
	}
	if s.CheckBeforeUpdate != nil && !*s.CheckBeforeUpdate {
		c.leave("memory.checkBeforeUpdate", false, "an update is always checked against the usage")
	}
}

// swap is swap alone, of memory plus swap.
func (c *conversion) swap(s *specs.LinuxMemory) cgroups.Limit {
	both := c.bytes("memory.swap", s.Swap)
	sum, ok := both.Value()
	if !ok {
		return both
	}
	limit, limited := c.r.Memory.Max.Value()
	switch {
	case !limited:
		c.bad("memory.swap", sum, "it is memory plus swap, and memory.limit is not a number")
	case sum < limit:
		c.bad("memory.swap", sum, "it is memory plus swap, and less than memory.limit, "+strconv.FormatUint(limit, 10))
	default:
		return cgroups.Bytes(sum - limit)
	}
	return cgroups.Limit{}
}

func (c *conversion) blockIO(s *specs.LinuxBlockIO) {
	if s.Weight != nil {
		c.r.IO.Weight = c.weight("blockIO.weight", *s.Weight)
	}
	if s.LeafWeight != nil {
		c.leave("blockIO.leafWeight", *s.LeafWeight, "the cfq scheduler had it, until Linux 5.0")
	}
	for i, w := range s.WeightDevice {
		field := fmt.Sprintf("blockIO.weightDevice[%d]", i)
		if w.LeafWeight != nil {
			c.leave(field+".leafWeight", *w.LeafWeight, "the cfq scheduler had it, until Linux 5.0")
		}
		d := c.device(field, w.LinuxBlockIODevice)
		if w.Weight == nil || d == nil {
			continue
		}
		if !d.Weight.IsZero() {
			c.bad(field, d.Device, "a second weight of the device")
		}
		d.Weight = c.weight(field, *w.Weight)
	}
	for _, l := range throttles {
		for i, t := range *l.list(s) {
			field := fmt.Sprintf("blockIO.%s[%d]", l.field, i)
			d := c.device(field, t.LinuxBlockIODevice)
			if d == nil {
				continue
			}
			to := l.knob(d)
			if !to.IsZero() {
				c.bad(field, d.Device, "a second limit of the device")
			}
			// v1, whose words these are, lifts a limit with 0.
			if *to = cgroups.Count(t.Rate); t.Rate == 0 || t.Rate == math.MaxUint64 {
				*to = cgroups.Max()
			}
		}
	}
}

// throttles are the fields of io.max.
var throttles = []struct {
	field string
	list  func(*specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice
	knob  func(*cgroups.IODevice) *cgroups.Limit
}{
	{
		"throttleReadBpsDevice", func(s *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &s.ThrottleReadBpsDevice },
		func(d *cgroups.IODevice) *cgroups.Limit { return &d.ReadBytes },
	},
	{
		"throttleWriteBpsDevice", func(s *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &s.ThrottleWriteBpsDevice },
		func(d *cgroups.IODevice) *cgroups.Limit { return &d.WriteBytes },
	},
	{
		"throttleReadIOPSDevice", func(s *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &s.ThrottleReadIOPSDevice },
		func(d *cgroups.IODevice) *cgroups.Limit { return &d.ReadOps },
	},
	{
		"throttleWriteIOPSDevice", func(s *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &s.ThrottleWriteIOPSDevice },
		func(d *cgroups.IODevice) *cgroups.Limit { return &d.WriteOps },
	},
}

func (c *conversion) weight(field string, n uint16) cgroups.Weight {
	if n == 0 {
		c.leave(field, 0, zeroIsUnset)
		return cgroups.Weight{}
	}
	if n > 1000 {
		c.bad(field, n, "above 1000")
		return cgroups.Weight{}
	}
	return cgroups.WeightOfBFQ(n)
}

// device is the entry of a device, or nil if there can be no such device. It is
// good until the next call.
func (c *conversion) device(field string, s specs.LinuxBlockIODevice) *cgroups.IODevice {
	if s.Major < 0 || s.Major > math.MaxUint32 || s.Minor < 0 || s.Minor > math.MaxUint32 {
		c.bad(field, fmt.Sprintf("%d:%d", s.Major, s.Minor), "no such device number")
		return nil
	}
	return deviceIn(&c.r, cgroups.Device{Major: uint32(s.Major), Minor: uint32(s.Minor)})
}

func deviceIn(r *cgroups.Resources, d cgroups.Device) *cgroups.IODevice {
	for i := range r.IO.Devices {
		if r.IO.Devices[i].Device == d {
			return &r.IO.Devices[i]
		}
	}
	r.IO.Devices = append(r.IO.Devices, cgroups.IODevice{Device: d})
	return &r.IO.Devices[len(r.IO.Devices)-1]
}

func (c *conversion) hugepages(limits []specs.LinuxHugepageLimit) {
	for i, h := range limits {
		field := fmt.Sprintf("hugepageLimits[%d]", i)
		size, err := cgroups.ParsePageSize(h.Pagesize)
		if err != nil {
			c.bad(field, h.Pagesize, "not a size of huge pages such as 2MB")
			continue
		}
		l := cgroups.Bytes(h.Limit)
		if h.Limit == math.MaxUint64 {
			l = cgroups.Max()
		}
		// Twice the same size is for Validate to refuse.
		c.r.HugeTLB = append(c.r.HugeTLB, cgroups.HugeTLB{PageSize: size, Max: l, Reserved: l})
	}
}

// unlimitedRDMA is what rdma.max calls "max" (S32_MAX).
const unlimitedRDMA = math.MaxInt32

func (c *conversion) rdma(all map[string]specs.LinuxRdma) {
	for _, name := range sortedKeys(all) {
		d := cgroups.RDMA{Device: name}
		for _, l := range []struct {
			from *uint32
			to   *cgroups.Limit
		}{{all[name].HcaHandles, &d.Handles}, {all[name].HcaObjects, &d.Objects}} {
			if l.from != nil {
				if *l.to = cgroups.Count(uint64(*l.from)); *l.from == unlimitedRDMA {
					*l.to = cgroups.Max()
				}
			}
		}
		if d != (cgroups.RDMA{Device: name}) {
			c.r.RDMA = append(c.r.RDMA, d)
		}
	}
}

func (c *conversion) network(s *specs.LinuxNetwork) {
	if s == nil {
		return
	}
	if s.ClassID != nil {
		c.leave("network.classID", *s.ClassID, onlyOnV1)
	}
	for _, p := range s.Priorities {
		c.leave("network.priorities", fmt.Sprintf("%s %d", p.Name, p.Priority), onlyOnV1)
	}
}
