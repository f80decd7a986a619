// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/caisson-run/caisson/cgroups"
)

// FromStats converts s. A controller whose figures s does not have is nil in
// the result, and so is a pressure.
//
// WorkingsetRefault and WorkingsetActivate, which the kernel counts apart for
// anonymous memory and files since Linux 5.9, are the sums.
func FromStats(s *cgroups.Stats) *stats.Metrics {
	m := &stats.Metrics{}
	if !s.CPU.Usage.IsZero() || !s.CPU.Periods.IsZero() || !s.CPUPressure.IsZero() {
		m.CPU = cpu(s)
	}
	if s.Has.Has(cgroups.ControllerMemory) || !s.MemoryPressure.IsZero() {
		m.Memory = memory(s)
	}
	if e := &s.Memory.Events; s.Has.Has(cgroups.ControllerMemory) {
		m.MemoryEvents = &stats.MemoryEvents{
			Low: number(e.Low), High: number(e.High), Max: number(e.Max),
			Oom: number(e.OOM), OomKill: number(e.OOMKill), OomGroupKill: number(e.OOMGroupKill),
		}
	}
	if s.Has.Has(cgroups.ControllerIO) || !s.IOPressure.IsZero() {
		m.Io = &stats.IOStat{PSI: psi(s.IOPressure)}
		for _, d := range s.IO.Devices {
			m.Io.Usage = append(m.Io.Usage, &stats.IOEntry{
				Major: uint64(d.Device.Major), Minor: uint64(d.Device.Minor),
				Rbytes: number(d.ReadBytes), Wbytes: number(d.WriteBytes),
				Rios: number(d.ReadOps), Wios: number(d.WriteOps),
			})
		}
	}
	if s.Has.Has(cgroups.ControllerPIDs) {
		m.Pids = &stats.PidsStat{Current: number(s.PIDs.Current), Limit: limit(s.PIDs.Max)}
	}
	if s.Has.Has(cgroups.ControllerRDMA) {
		m.Rdma = &stats.RdmaStat{}
		for _, d := range s.RDMA {
			m.Rdma.Current = append(m.Rdma.Current, &stats.RdmaEntry{
				Device: d.Device, HcaHandles: small(d.Handles), HcaObjects: small(d.Objects),
			})
		}
	}
	for _, h := range s.HugeTLB {
		m.Hugetlb = append(m.Hugetlb, &stats.HugeTlbStat{
			Pagesize: cgroups.PageSizeName(h.PageSize), Current: number(h.Current), Max: limit(h.Max), Failcnt: number(h.Failures),
		})
	}
	return m
}

func cpu(s *cgroups.Stats) *stats.CPUStat {
	c := &s.CPU
	return &stats.CPUStat{
		UsageUsec: micros(c.Usage), UserUsec: micros(c.User), SystemUsec: micros(c.System),
		NrPeriods: number(c.Periods), NrThrottled: number(c.Throttled), ThrottledUsec: micros(c.ThrottledTime),
		NrBursts: number(c.Bursts), BurstUsec: micros(c.BurstTime),
		PSI: psi(s.CPUPressure),
	}
}

func memory(s *cgroups.Stats) *stats.MemoryStat {
	m := &s.Memory
	return &stats.MemoryStat{
		Anon:                  number(m.Anon),
		File:                  number(m.File),
		KernelStack:           number(m.KernelStack),
		Slab:                  number(m.Slab),
		Sock:                  number(m.Sock),
		Shmem:                 number(m.Shmem),
		FileMapped:            number(m.FileMapped),
		FileDirty:             number(m.FileDirty),
		FileWriteback:         number(m.FileWriteback),
		AnonThp:               number(m.AnonTHP),
		InactiveAnon:          number(m.InactiveAnon),
		ActiveAnon:            number(m.ActiveAnon),
		InactiveFile:          number(m.InactiveFile),
		ActiveFile:            number(m.ActiveFile),
		Unevictable:           number(m.Unevictable),
		SlabReclaimable:       number(m.SlabReclaimable),
		SlabUnreclaimable:     number(m.SlabUnreclaimable),
		Pgfault:               number(m.Faults),
		Pgmajfault:            number(m.MajorFaults),
		WorkingsetRefault:     number(m.RefaultAnon) + number(m.RefaultFile),
		WorkingsetActivate:    number(m.ActivateAnon) + number(m.ActivateFile),
		WorkingsetNodereclaim: number(m.NodeReclaim),
		Pgrefill:              number(m.Refilled),
		Pgscan:                number(m.Scanned),
		Pgsteal:               number(m.Stolen),
		Pgactivate:            number(m.Activated),
		Pgdeactivate:          number(m.Deactivated),
		Pglazyfree:            number(m.LazyFree),
		Pglazyfreed:           number(m.LazyFreed),
		ThpFaultAlloc:         number(m.THPFaults),
		ThpCollapseAlloc:      number(m.THPCollapses),
		Usage:                 number(m.Current),
		UsageLimit:            limit(m.Max),
		MaxUsage:              number(m.Peak),
		SwapUsage:             number(m.Swap),
		SwapLimit:             limit(m.SwapMax),
		SwapMaxUsage:          number(m.SwapPeak),
		PSI:                   psi(s.MemoryPressure),
	}
}

func psi(p cgroups.Pressure) *stats.PSIStats {
	if p.IsZero() {
		return nil
	}
	return &stats.PSIStats{Some: line(p.Some), Full: line(p.Full)}
}

func line(l cgroups.PressureLine) *stats.PSIData {
	if !l.Present {
		return nil
	}
	return &stats.PSIData{Avg10: l.Avg10, Avg60: l.Avg60, Avg300: l.Avg300, Total: uint64(l.Total.Microseconds())}
}

func number(r cgroups.Reading[uint64]) uint64 {
	n, _ := r.Value()
	return n
}

func micros(r cgroups.Reading[time.Duration]) uint64 {
	d, _ := r.Value()
	return uint64(d.Microseconds())
}

func small(r cgroups.Reading[uint64]) uint32 { return uint32(min(number(r), math.MaxUint32)) }

func limit(l cgroups.Limit) uint64 {
	if l.IsMax() {
		return math.MaxUint64
	}
	n, _ := l.Value()
	return n
}
