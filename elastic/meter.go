// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/linux"
)

// Meter makes snapshots of a fleet: it remembers the counters of the last one, so
// that the next has rates. It is not safe for concurrent use.
type Meter struct {
	fleet   Fleet
	placed  bool // whether which CPUs there are matters
	wired   bool // whether networks do
	uplink  uplinkMeter
	first   time.Time
	last    time.Time
	idle    time.Duration // of the machine's CPUs
	stalls  [3]cgroups.Pressure
	before  map[string]*counted
	missing map[string]error // why a sandbox is not in the last snapshot
	latest  *Snapshot        // the last one
}

// counted is what was read of a sandbox.
type counted struct {
	target    Target
	now, then *cgroups.Stats // then is nil at first
	network   networkMeter
}

// NewMeter makes a meter that has measured nothing. Which CPUs the machine and best
// effort have is measured only if one of the policies moves cpuset.cpus, and networks,
// with the link that they share, if one limits them.
func NewMeter(f Fleet, policies ...Policy) *Meter {
	placed := slices.ContainsFunc(policies, func(p Policy) bool {
		return slices.ContainsFunc(p.Levers(), func(l Lever) bool { return l.Knob == KnobCPUs })
	})
	return &Meter{fleet: f, placed: placed, wired: goesByNetwork(policies), before: make(map[string]*counted), missing: make(map[string]error)}
}

// Read measures everything now. A sandbox that cannot be measured is left out,
// and [Meter.Missing] says why; the machine must be measurable.
//
// Its own clock is the monotonic one, so Elapsed is right when the wall clock
// jumps.
func (m *Meter) Read() (*Snapshot, error) {
	now := time.Now()
	if m.first.IsZero() {
		m.first = now
	}
	s := &Snapshot{Time: now.Round(0), At: now.Sub(m.first)}
	if !m.last.IsZero() {
		s.Elapsed = now.Sub(m.last)
	}
	m.last = now
	if err := m.machine(s); err != nil {
		return nil, err
	}
	clear(m.missing)
	present := make(map[string]*counted)
	for t := range m.fleet.Targets() {
		id := t.ID()
		c := m.before[id]
		if c == nil || c.target != t {
			c = &counted{target: t, now: new(cgroups.Stats)}
		} else if c.then == nil {
			c.then, c.now = c.now, new(cgroups.Stats)
		} else {
			c.then, c.now = c.now, c.then
		}
		u, err := c.use(s)
		if err == nil && m.wired {
			u.Network, err = c.network.read(t, s.Elapsed)
		}
		switch {
		case errors.Is(err, cgroups.ErrGone):
			continue
		case err != nil:
			m.missing[id] = err
			continue
		}
		present[id] = c
		s.Sandboxes = append(s.Sandboxes, u)
	}
	m.before, m.latest = present, s
	s.sort()
	return s, nil
}

func (s *Snapshot) sort() {
	slices.SortFunc(s.Sandboxes, func(a, b Use) int { return strings.Compare(a.ID, b.ID) })
}

// ReadNew measures the sandboxes that were made since the last snapshot, and nothing
// else: see Snapshot.New. It is nil if there are none, and before the first snapshot,
// to which all are new.
func (m *Meter) ReadNew() *Snapshot {
	if m.latest == nil {
		return nil
	}
	now := time.Now()
	s := *m.latest
	s.Time, s.At, s.Elapsed, s.New = now.Round(0), now.Sub(m.first), 0, nil
	s.Sandboxes = slices.Clone(s.Sandboxes)
	for t := range m.fleet.Targets() {
		id := t.ID()
		known := m.before[id]
		if known != nil && known.target == t {
			continue
		}
		c := &counted{target: t, now: new(cgroups.Stats)}
		u, err := c.use(&s)
		if err != nil {
			continue // the next Read tells
		}
		m.before[id] = c
		if known != nil { // somebody else had its name
			s.Sandboxes = slices.DeleteFunc(s.Sandboxes, func(old Use) bool { return old.ID == id })
		}
		s.Sandboxes, s.New = append(s.Sandboxes, u), append(s.New, id)
	}
	if s.New == nil {
		return nil
	}
	s.sort()
	slices.Sort(s.New)
	m.latest = &s
	return &s
}

// Missing is which sandboxes the last snapshot lacks, and why.
func (m *Meter) Missing() map[string]error { return m.missing }

func (m *Meter) machine(s *Snapshot) error {
	cpu, err := linux.ReadCPUTimes()
	if err != nil {
		return err
	}
	mem, err := linux.ReadMemInfo()
	if err != nil {
		return err
	}
	s.Machine = MachineUse{
		CPUs:   float64(cpu.CPUs),
		Memory: mem.Total, Free: mem.Available, Swap: mem.SwapTotal, SwapFree: mem.SwapFree,
	}
	if b, ok := m.fleet.(Bounded); ok {
		limit, used, bounded, err := b.Memory()
		if err != nil {
			return err
		}
		if bounded && limit < s.Machine.Memory {
			s.Machine.Memory = limit
			s.Machine.Free = min(s.Machine.Free, limit-min(limit, used))
		}
	}
	if p, ok := m.fleet.(Placed); ok && m.placed {
		set, err := p.CPUs()
		if err != nil && !errors.Is(err, cgroups.ErrNotSupported) {
			return err
		}
		s.Machine.CPUSet = set
	}
	var stalls [3]cgroups.Pressure
	for i, r := range []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO} {
		// A machine without pressure files has no stalls to tell of.
		if err := m.fleet.Pressure(r, &stalls[i]); err != nil && !errors.Is(err, cgroups.ErrNotSupported) {
			return err
		}
	}
	if m.wired {
		if s.Machine.Uplink, err = m.uplink.read(m.fleet, s.Elapsed); err != nil {
			return err
		}
	}
	if s.Elapsed > 0 {
		s.Machine.CPU = max(0, s.Machine.CPUs-perSecond(m.idle, cpu.Idle, s.Elapsed))
		s.Machine.Stalls.CPU = stall(m.stalls[0], stalls[0], s.Elapsed, 0)
		s.Machine.Stalls.Memory = stall(m.stalls[1], stalls[1], s.Elapsed, 0)
		s.Machine.Stalls.IO = stall(m.stalls[2], stalls[2], s.Elapsed, 0)
	}
	m.idle, m.stalls = cpu.Idle, stalls
	return nil
}

// use reads c's target and says what it did since the snapshot before s.
func (c *counted) use(s *Snapshot) (Use, error) {
	t, elapsed := c.target, s.Elapsed
	if err := t.Stat(c.now); err != nil {
		return Use{}, err
	}
	of := []cgroups.Controller{cgroups.ControllerCPU, cgroups.ControllerMemory}
	if len(c.now.IO.Devices) > 0 {
		of = append(of, cgroups.ControllerIO)
	}
	placed := t.Class() == BestEffort && !s.Machine.CPUSet.IsZero()
	if placed {
		of = append(of, cgroups.ControllerCPUSet)
	}
	limits, err := t.Limits(of...)
	if err != nil {
		return Use{}, err
	}
	frozen, err := t.Frozen()
	if err != nil {
		return Use{}, err
	}
	now, then := c.now, c.then
	u := Use{ID: t.ID(), Class: t.Class(), Frozen: frozen, Service: t.Service()}
	u.CPUMax, _ = limits.CPU.Max.CPUs()
	asked := t.Asked()
	u.CPUBase, _ = asked.CPU.Max.CPUs()
	if placed {
		u.CPUSet = limits.CPUSet.CPUs
	}
	if !s.Machine.CPUSet.IsZero() && u.Class != Standard {
		u.CPUSetBase = asked.CPUSet.CPUs
	}
	u.MemoryMax, _ = limits.Memory.Max.Value()
	low, _ := limits.Memory.Low.Value()
	least, _ := limits.Memory.Min.Value()
	u.MemoryMin = max(low, least)
	u.Memory = value(now.Memory.Current)
	u.Cold = value(now.Memory.InactiveFile)
	u.File = value(now.Memory.ActiveFile) + u.Cold
	if u.Class == LatencyCritical {
		u.MemoryLow, u.MemoryLowBase = limits.Memory.Low, asked.Memory.Low
		if u.MemoryLowBase.IsZero() {
			u.MemoryLowBase = asked.Memory.Min
		}
	}
	u.Swapped = value(now.Memory.Swap)
	if then == nil || elapsed <= 0 {
		return u, nil
	}
	u.CPU = perSecond(duration(then.CPU.Usage), duration(now.CPU.Usage), elapsed)
	u.System = min(perSecond(duration(then.CPU.System), duration(now.CPU.System), elapsed), u.CPU)
	throttled := grownTime(then.CPU.ThrottledTime, now.CPU.ThrottledTime)
	if periods := grown(then.CPU.Periods, now.CPU.Periods); periods > 0 {
		u.Throttled = min(1, float64(grown(then.CPU.Throttled, now.CPU.Throttled))/float64(periods))
	}
	u.Growth = (float64(value(now.Memory.Current)) - float64(value(then.Memory.Current))) / elapsed.Seconds()
	u.Refaults = float64(grown(then.Memory.RefaultAnon, now.Memory.RefaultAnon)+
		grown(then.Memory.RefaultFile, now.Memory.RefaultFile)) / elapsed.Seconds()
	u.Stalls.CPU = stall(then.CPUPressure, now.CPUPressure, elapsed, throttled)
	u.Stalls.Memory = stall(then.MemoryPressure, now.MemoryPressure, elapsed, 0)
	u.Stalls.IO = stall(then.IOPressure, now.IOPressure, elapsed, 0)
	u.IO = devices(then, now, limits, elapsed)
	return u, nil
}

// devices are the rates of each device that the sandbox ever used.
func devices(then, now *cgroups.Stats, limits cgroups.Resources, elapsed time.Duration) []DeviceUse {
	var list []DeviceUse
	for _, d := range now.IO.Devices {
		var was cgroups.IODeviceStats
		if i := slices.IndexFunc(then.IO.Devices, func(o cgroups.IODeviceStats) bool { return o.Device == d.Device }); i >= 0 {
			was = then.IO.Devices[i]
		} else {
			zero := cgroups.ReadingOf[uint64](0)
			was.ReadBytes, was.WriteBytes, was.ReadOps, was.WriteOps = zero, zero, zero, zero
		}
		u := DeviceUse{
			Device:     d.Device,
			ReadBytes:  float64(grown(was.ReadBytes, d.ReadBytes)) / elapsed.Seconds(),
			WriteBytes: float64(grown(was.WriteBytes, d.WriteBytes)) / elapsed.Seconds(),
			Ops:        float64(grown(was.ReadOps, d.ReadOps)+grown(was.WriteOps, d.WriteOps)) / elapsed.Seconds(),
			Cost:       perSecond(duration(was.Cost), duration(d.Cost), elapsed),
		}
		u.Limited = slices.ContainsFunc(limits.IO.Devices, func(l cgroups.IODevice) bool { return l.Device == d.Device })
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b DeviceUse) int { return strings.Compare(a.Device.String(), b.Device.String()) })
	return list
}

// stall is the share of elapsed that was lost between two readings, without what
// the group's own quota took: while it is throttled its tasks stall, but not for
// want of a CPU.
func stall(then, now cgroups.Pressure, elapsed, throttled time.Duration) Stall {
	share := func(a, b cgroups.PressureLine) float64 {
		if !a.Present || !b.Present || b.Total < a.Total {
			return 0
		}
		lost := b.Total - a.Total - throttled
		return min(1, max(0, float64(lost)/float64(elapsed)))
	}
	return Stall{Some: share(then.Some, now.Some), Full: share(then.Full, now.Full)}
}

func perSecond(then, now, elapsed time.Duration) float64 {
	return max(0, float64(now-then)/float64(elapsed))
}

func value(r cgroups.Reading[uint64]) uint64 {
	v, _ := r.Value()
	return v
}

func duration(r cgroups.Reading[time.Duration]) time.Duration {
	v, _ := r.Value()
	return v
}

func grownTime(then, now cgroups.Reading[time.Duration]) time.Duration {
	return max(0, duration(now)-duration(then))
}
