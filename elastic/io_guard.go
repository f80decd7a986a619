// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// IOGuard keeps disks for the services: while one of them stalls for IO, the
// best-effort sandbox that moves the most bytes is limited on the device where it
// does, further and further; when nobody stalls any more the limits grow and are
// lifted in the end. It sets io.max: rbps and wbps and, in the same proportion to
// what the sandbox did, riops and wiops.
//
// Where io.cost is enabled on a device, the kernel knows how much of the device's
// time each group's IO takes, and who takes the most is limited, as by oomd's
// kill_by_io_cost: many small reads at random weigh more than one large stream.
//
// It lowers fast and raises slowly, as a network's congestion control does, which
// is what makes it come to rest: down by Down at each snapshot with a stall, up
// by Up at each one without, and gone once it is Lift times what was seen before.
//
// The zero value has the defaults given at each field.
type IOGuard struct {
	Stall float64 // a service's IO stall, some, above which it acts; 0 is 0.10
	Down  float64 // 0 is 0.7
	Up    float64 // 0 is 1.05
	Lift  float64 // 0 is 2
	Floor float64 // bytes a second that everybody keeps; 0 is 1 MiB

	limits map[ioKey]*ioLimit
}

type ioKey struct {
	id     string
	device cgroups.Device
}

type ioLimit struct {
	seen float64 // bytes a second before it was limited
	ops  float64 // operations a second then
	cost float64 // share of the device's time then
	now  float64
	calm time.Duration // of snapshots without a stall since the last one with
}

// Name is "io-guard".
func (*IOGuard) Name() string { return "io-guard" }

// Levers is io.max of best effort.
func (*IOGuard) Levers() []Lever { return []Lever{{BestEffort, KnobIOMax}} }

// Decide lowers one limit, or raises all.
func (p *IOGuard) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 {
		return nil
	}
	if p.limits == nil {
		p.limits = make(map[ioKey]*ioLimit)
	}
	for key := range p.limits {
		if s.Find(key.id) == nil {
			delete(p.limits, key)
		}
	}
	who, stall := s.worst(func(u *Use) float64 { return u.Stalls.IO.Some })
	limit := cmp.Or(p.Stall, 0.10)
	if stall > limit {
		return p.lower(s, fmt.Sprintf("%s stalls %.0f%% of the time for IO, more than %.0f%%", who.ID, 100*stall, 100*limit), who.ID)
	}
	return p.raise(s, stall <= limit/2)
}

// lower limits whoever takes the most of a device's time or, where that is not
// known, moves the most bytes.
func (p *IOGuard) lower(s *Snapshot, why, who string) []Correction {
	var most DeviceUse
	var at ioKey
	for u := range s.running(BestEffort) {
		for _, d := range u.IO {
			if c := cmp.Compare(d.Cost, most.Cost); c > 0 || c == 0 && d.bytes() > most.bytes() {
				most, at = d, ioKey{u.ID, d.Device}
			}
		}
	}
	floor := cmp.Or(p.Floor, 1<<20)
	if most.bytes() <= floor && most.Cost < leastCost {
		return nil // it is not they
	}
	l := p.limits[at]
	if l == nil {
		l = &ioLimit{seen: most.bytes(), ops: most.Ops, cost: most.Cost, now: most.bytes()}
		p.limits[at] = l
	}
	l.calm = 0
	if l.cost > leastCost {
		floor = min(floor, l.seen*leastCost/l.cost)
	}
	l.now = max(floor, min(l.now, most.bytes())*cmp.Or(p.Down, 0.7))
	c := p.correction(at, Throttle, l, cgroups.Bytes(uint64(l.now)))
	does := fmt.Sprintf("%s moves the most there, %.1f MiB a second on %s", at.id, most.bytes()/(1<<20), at.device)
	if most.Cost > 0 {
		does = fmt.Sprintf("%s takes the most of %s, %.0f%% of its time for %.1f MiB a second", at.id, at.device, 100*most.Cost, most.bytes()/(1<<20))
	}
	c.Reason = fmt.Sprintf("%s; %s: %.1f from now on", why, does, l.now/(1<<20))
	c.Expect = Expectation{Figure: FigureIOSome, Of: who, Most: cmp.Or(p.Stall, 0.10), Within: 10 * time.Second}
	return []Correction{c}
}

func (d *DeviceUse) bytes() float64 { return d.ReadBytes + d.WriteBytes }

// Who takes less of a device's time than leastCost does not disturb, and is left as
// much; nobody is left fewer operations a second than leastOps.
const (
	leastCost = 0.05
	leastOps  = 10
)

// raise gives back, after a second of calm.
func (p *IOGuard) raise(s *Snapshot, calm bool) []Correction {
	keys := slices.SortedFunc(maps.Keys(p.limits), func(a, b ioKey) int {
		return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.device.String(), b.device.String()))
	})
	var out []Correction
	for _, at := range keys {
		l := p.limits[at]
		if !calm {
			l.calm = 0
			continue
		}
		if l.calm += s.Elapsed; l.calm < time.Second {
			continue
		}
		l.now *= cmp.Or(p.Up, 1.05)
		to, word := cgroups.Bytes(uint64(l.now)), fmt.Sprintf("%.1f MiB a second", l.now/(1<<20))
		if l.now >= l.seen*cmp.Or(p.Lift, 2) {
			to, word = cgroups.Max(), "no limit"
			delete(p.limits, at)
		}
		c := p.correction(at, Release, l, to)
		c.Reason = fmt.Sprintf("no service has stalled for IO for %v: %s on %s", l.calm, word, at.device)
		out = append(out, c)
	}
	return out
}

func (p *IOGuard) correction(at ioKey, r Rung, l *ioLimit, rate cgroups.Limit) Correction {
	c := Correction{Policy: p.Name(), Sandbox: at.id, Rung: r}
	d := cgroups.IODevice{Device: at.device, ReadBytes: rate, WriteBytes: rate}
	if l.ops > 0 && l.seen > 0 {
		ops := cgroups.Max()
		if !rate.IsMax() {
			ops = cgroups.Count(uint64(max(leastOps, l.ops*l.now/l.seen)))
		}
		d.ReadOps, d.WriteOps = ops, ops
	}
	c.Resources.IO.Devices = []cgroups.IODevice{d}
	return c
}
