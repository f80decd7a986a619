// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"slices"
	"strconv"
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
	high, highKnown := uint64(0), false
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
		if k.file == highFile {
			high, highKnown = k.to, true
		}
	}

	up, down, last := "rises before the limits below it", "falls before the limits above it", "falls after the limits below it"
	if len(knobs) == 1 {
		up, down, last = "", "", ""
	}
	for _, k := range knobs {
		if k.to > k.now {
			p.addMemory(k, grow, up)
		}
	}
	for _, k := range slices.Backward(knobs) {
		switch {
		case k.to >= k.now:
		case k.file == maxFile:
			if !highKnown {
				var err error
				if high, err = p.memoryAmount(highFile, highFile); err != nil {
					return err
				}
			}
			if err := p.shrinkMax(k, high, last); err != nil {
				return err
			}
		default:
			p.addMemory(k, reclaim, down)
		}
	}
	return nil
}

func (p *planner) addMemory(k memoryKnob, s stage, why string) {
	c := Change{
		Controller: ControllerMemory, Knob: k.file, File: k.file,
		Old: amountText(k.now, wordMax), New: amountText(k.to, wordMax),
		Why: rounded(why, k.ask, k.to, p.page), stage: s,
	}
	if k.file == maxFile {
		// Neither the write nor its undoing may kill.
		never := guard{usageFile, min(k.now, k.to)}
		if k.to < k.now {
			c.guard = never
		} else {
			c.undo = []write{{file: c.File, data: c.Old, guard: never}}
		}
	}
	p.add(c)
}

// shrinkMax lowers memory.max. Below the usage the kernel would reclaim and
// then kill; memory.high makes it reclaim without killing, so that comes first
// where something can be reclaimed. high is what memory.high holds by then.
func (p *planner) shrinkMax(k memoryKnob, high uint64, why string) error {
	usage, err := p.memoryAmount(maxFile, usageFile)
	if err != nil {
		return err
	}
	if usage > k.to {
		stays, err := p.unreclaimable(usage)
		if err != nil {
			return err
		}
		if stays > k.to {
			return &InUseError{Knob: maxFile, Limit: k.to, Usage: stays}
		}
	}
	if usage <= k.to || high <= k.to {
		p.addMemory(k, reclaim, why)
		return nil
	}
	guardHigh := memoryKnob{file: highFile, now: high, to: k.to, ask: k.to}
	p.addMemory(guardHigh, reclaim, strconv.FormatUint(usage, 10)+" bytes are in use: memory.high reclaims them and kills nobody, memory.max would")
	p.changes[len(p.changes)-1].passing = true
	p.addMemory(k, reclaim, "once the usage is below it")
	guardHigh.now, guardHigh.to, guardHigh.ask = k.to, high, high
	p.addMemory(guardHigh, reclaim, "as it was before the reclaim")
	return nil
}

// unreclaimable is the usage without what the kernel can drop at once: page
// cache on the LRU lists and reclaimable slabs. Memory that only swapping frees
// counts as staying.
func (p *planner) unreclaimable(usage uint64) (uint64, error) {
	stat, err := p.read(ControllerMemory, "memory.stat")
	if err != nil {
		return 0, err
	}
	for _, key := range []string{"inactive_file", "active_file", "slab_reclaimable"} {
		if v, ok := lineOf(stat, key); ok {
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return 0, &FileError{Op: "parse", Path: p.path(ControllerMemory, "memory.stat"), Data: key + " " + v, Err: err}
			}
			usage -= min(n, usage)
		}
	}
	return usage, nil
}
