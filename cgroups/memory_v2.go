// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"slices"
)

const (
	maxFile   = "memory.max"
	highFile  = "memory.high"
	usageFile = "memory.current"
)

// memoryKnob is one file of v2 that holds bytes.
type memoryKnob struct {
	file         string
	limit        Limit
	def          uint64
	now, to, ask uint64
}

// memoryV2 plans limits from the top down as far as they rise and from the
// bottom up as far as they fall, so that min <= low <= high <= max holds at each
// moment if it holds before and after. The kernel does not insist, but a high
// above max is no warning, and a protection above a limit protects nothing.
func (p *planner) memoryV2(m Memory) error {
	knobs := []memoryKnob{
		{file: "memory.swap.max", limit: m.Swap, def: noLimit},
		{file: "memory.swap.high", limit: m.SwapHigh, def: noLimit},
		{file: maxFile, limit: m.Max, def: noLimit},
		{file: highFile, limit: m.High, def: noLimit},
		{file: "memory.low", limit: m.Low},
		{file: "memory.min", limit: m.Min},
	}
	knobs = slices.DeleteFunc(knobs, func(k memoryKnob) bool { return k.limit.IsZero() })
	for i := range knobs {
		k := &knobs[i]
		var err error
		if k.now, err = p.memoryAmount(k.file, k.file); err != nil {
			return err
		}
		k.ask = k.limit.amount(k.def)
		if k.to, err = whole(k.file, k.ask, p.page); err != nil {
			return err
		}
	}

	up, down, last := "rises before the limits below it", "falls before the limits above it", "falls after the limits below it"
	if len(knobs) == 1 {
		up, down, last = "", "", ""
	}
	for _, k := range knobs {
		if k.to > k.now {
			if err := p.addMemory(k, up); err != nil {
				return err
			}
		}
	}
	for _, k := range slices.Backward(knobs) {
		if k.to >= k.now {
			continue
		}
		why := down
		if k.file == maxFile {
			why = last
		}
		if err := p.addMemory(k, why); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) addMemory(k memoryKnob, why string) error {
	c := Change{
		Controller: ControllerMemory, Knob: k.file, File: k.file,
		Old: amountText(k.now, wordMax), New: amountText(k.to, wordMax),
		Why: rounded(why, k.ask, k.to, p.page), stage: memoryStage(k.now, k.to),
	}
	switch {
	case k.file == maxFile && k.to > k.now:
		// Undoing it must not kill either.
		c.undo = []write{{file: c.File, data: c.Old, guard: guard{usageFile, k.now}}}
	case k.file == maxFile:
		if err := p.lower(&c, 2, k.now, k.to, noLimit); err != nil {
			return err
		}
	case k.file == highFile && k.to < k.now:
		// The kernel reclaims what is above it, and slows the group down.
		usage, err := p.memoryAmount(highFile, usageFile)
		if err != nil {
			return err
		}
		c.slow = usage > k.to
	}
	p.add(c)
	return nil
}
