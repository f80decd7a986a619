// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
)

const (
	weightIdle  = "an idle group has no weight: the kernel refuses one. Switch Idle off in the same update"
	idleForgets = "last, because the kernel forgets the weight of an idle group"
)

// cpu plans the knobs of the cpu controller.
func (p *planner) cpu(c CPU) error {
	if c == (CPU{}) {
		return nil
	}
	v, err := p.under(ControllerCPU)
	if err != nil {
		return err
	}
	names := cpuFilesV2
	if v == 1 {
		names = cpuFilesV1
	}
	return errors.Join(p.cpuShare(names, c), p.cpuBandwidth(names, c))
}

// cpuFiles is how one version names and writes the knobs of cpu.
type cpuFiles struct {
	weight, idle, burst string
	idleWeights         []string // what the weight of an idle group reads as, among others'
	weightText          func(uint16) string
	sameWeight          func(text string, w uint16) bool
	bandwidth           func(*planner) (bandwidth, error)
	setBandwidth        func(p *planner, from, to bandwidth)
}

// cpuShare plans weight and idle. Switching idle off resets the weight to the
// default, so it comes before the weight; switching it on forgets the weight, so
// undoing that writes the weight as well.
func (p *planner) cpuShare(names *cpuFiles, c CPU) error {
	if c.Weight.IsZero() && c.Idle == Keep {
		return nil
	}
	old, err := p.knob(ControllerCPU, "cpu.weight", names.weight)
	if err != nil {
		return err
	}
	idle, err := p.idle(names, c.Idle, old)
	if err != nil {
		return err
	}
	was := old
	if idle == "1" && c.Idle == Off {
		p.add(Change{
			Controller: ControllerCPU, Knob: "cpu.idle", File: names.idle, Old: "1", New: "0",
			Why: "first, because it resets the weight to the default", other: names.weight, otherWas: old,
		})
		old, idle = names.weightText(defaultWeight), "0"
	}
	if !c.Weight.IsZero() {
		w := c.Weight.number()
		switch {
		case idle == "1":
			return &InvalidError{Field: "cpu.weight", Value: c.Weight.String(), Reason: weightIdle}
		case !names.sameWeight(old, w):
			p.add(Change{Controller: ControllerCPU, Knob: "cpu.weight", File: names.weight, Old: old, New: names.weightText(w), was: was})
		}
	}
	if idle == "0" && c.Idle == On {
		p.add(Change{
			Controller: ControllerCPU, Knob: "cpu.idle", File: names.idle, Old: "0", New: "1",
			Why: idleForgets, stage: shrink, other: names.weight, otherWas: old,
			undo: []write{{file: names.idle, data: "0"}, {file: names.weight, data: old}},
		})
	}
	return nil
}

// idle reads cpu.idle, if want or the weight makes it matter.
func (p *planner) idle(names *cpuFiles, want Switch, weight string) (string, error) {
	if want == Keep && !slices.Contains(names.idleWeights, weight) {
		return "0", nil
	}
	idle, err := p.read(ControllerCPU, names.idle)
	switch {
	case !isAbsent(err):
		return idle, err
	case want != Keep:
		return "", &UnsupportedError{Feature: "cpu.idle", Since: since["cpu.idle"], Reason: "this kernel has no file " + names.idle}
	}
	return "0", nil
}

// bandwidth is a quota, or noLimit, and a period in microseconds.
type bandwidth struct{ quota, period uint64 }

// String is b as the text of cpu.max.
func (b bandwidth) String() string {
	return amountText(b.quota, wordMax) + " " + strconv.FormatUint(b.period, 10)
}

// ratio is the share of CPU.
func (b bandwidth) ratio() float64 {
	if b.quota == noLimit {
		return math.Inf(1)
	}
	return float64(b.quota) / float64(b.period)
}

// towards is the stage of a change to another bandwidth.
func (b bandwidth) towards(to bandwidth) stage {
	if to.ratio() < b.ratio() {
		return shrink
	}
	return grow
}

// on is what a Bandwidth makes of the present one.
func (b Bandwidth) on(now bandwidth) bandwidth {
	switch b.is {
	case set:
		return bandwidth{uint64(b.quota / time.Microsecond), uint64(b.period / time.Microsecond)}
	case unlimited:
		return bandwidth{noLimit, now.period}
	case clearing:
		return bandwidth{noLimit, uint64(defaultPeriod / time.Microsecond)}
	case unset:
	}
	return now
}

// cpuBandwidth plans quota, period and burst. The kernel wants burst <= quota at
// each moment, so when the quota falls the burst goes first.
func (p *planner) cpuBandwidth(names *cpuFiles, c CPU) error {
	if c.Max.IsZero() && c.Burst.IsZero() {
		return nil
	}
	now, err := names.bandwidth(p)
	if err != nil {
		return err
	}
	want := c.Max.on(now)
	if c.Burst.IsZero() && want == now {
		return nil
	}

	if c.Burst.IsZero() && want.quota >= now.quota {
		names.setBandwidth(p, now, want) // the burst, whatever it is, is not above it
		return nil
	}
	burst, err := p.burst(names, c.Burst)
	if err != nil {
		return err
	}
	wantBurst := burst
	if !c.Burst.IsZero() {
		wantBurst = uint64(c.Burst.d / time.Microsecond) // default: 0
	}
	if wantBurst > want.quota {
		if !c.Burst.IsZero() {
			return &InvalidError{Field: "cpu.max.burst", Value: c.Burst.String(), Reason: "above the quota of cpu.max, " + want.String()}
		}
		return &InvalidError{Field: "cpu.max", Value: c.Max.String(),
			Reason: "the quota is below cpu.max.burst, " + strconv.FormatUint(burst, 10) + ": lower Burst in the same update"}
	}

	setBurst := func(s stage, why string) {
		if wantBurst != burst {
			p.add(Change{Controller: ControllerCPU, Knob: "cpu.max.burst", File: names.burst, stage: s,
				Old: strconv.FormatUint(burst, 10), New: strconv.FormatUint(wantBurst, 10), Why: why})
		}
	}
	turn := now.towards(want)
	if want.quota < now.quota {
		setBurst(turn, "before the quota falls: the kernel refuses a burst above it")
		names.setBandwidth(p, now, want)
		return nil
	}
	why := ""
	if want != now {
		names.setBandwidth(p, now, want)
		why = "after the quota has risen: the kernel refuses a burst above it"
	}
	setBurst(turn, why)
	return nil
}

// burst reads the burst.
func (p *planner) burst(names *cpuFiles, want Duration) (uint64, error) {
	text, err := p.read(ControllerCPU, names.burst)
	switch {
	case err == nil:
		return parseAmount(text)
	case !isAbsent(err):
		return 0, err
	case !want.IsZero():
		return 0, &UnsupportedError{Feature: "cpu.max.burst", Since: since["cpu.max.burst"], Reason: "this kernel has no file " + names.burst}
	}
	return 0, nil
}

const defaultWeight = 100

// number is the weight to write.
func (w Weight) number() uint16 {
	if w.is == clearing {
		return defaultWeight
	}
	return w.n
}
