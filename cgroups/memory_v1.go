// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strconv"
)

const (
	limitV1 = "memory.limit_in_bytes"
	memswV1 = "memory.memsw.limit_in_bytes"
	usageV1 = "memory.usage_in_bytes"

	memswUsageV1 = "memory.memsw.usage_in_bytes"

	useHierarchyV1 = "memory.use_hierarchy"
)

// memoryV1 plans memory and swap. v1 limits memory, and memory plus swap, and
// wants the one not above the other at each moment. So when the sum rises it
// rises first, and when it falls it falls last. A limit below the usage is
// refused by the kernel itself, which reclaims and kills nobody.
func (p *planner) memoryV1(m Memory) error {
	if err := errors.Join(absentV1(m)...); err != nil {
		return err
	}
	if m.Max.IsZero() && m.Swap.IsZero() {
		return nil
	}
	now, err := p.memoryAmount(maxFile, limitV1)
	if err != nil {
		return err
	}
	to, ask := now, now
	if !m.Max.IsZero() {
		ask = m.Max.amount(noLimit)
		if to, err = whole(maxFile, ask, p.page); err != nil {
			return err
		}
	}

	sum, err := p.memoryAmount("memory.swap.max", memswV1)
	switch {
	case err == nil:
	case !errors.Is(err, ErrNotSupported):
		return err
	case !m.Swap.IsZero():
		return &UnsupportedError{Feature: "memory.swap.max",
			Reason: "this kernel has no file " + memswV1 + ": it does not account for swap (swapaccount=1)"}
	default:
		return p.addLimitV1(maxFile, limitV1, now, to, noLimit, rounded("", ask, to, p.page))
	}
	toSum, err := p.sumV1(m, now, to, sum)
	if err != nil {
		return err
	}

	limit := func(why string) error {
		if toSum == sum {
			why = ""
		}
		swap := uint64(noLimit)
		if toSum != noLimit {
			swap = toSum - min(to, toSum)
		}
		return p.addLimitV1(maxFile, limitV1, now, to, swap, rounded(why, ask, to, p.page))
	}
	if toSum < sum {
		if err := limit("before memory plus swap falls: the kernel wants it not above that"); err != nil {
			return err
		}
	}
	if err := p.addLimitV1("memory.swap.max", memswV1, sum, toSum, noLimit, "memory plus swap: v1 has no limit of swap alone"); err != nil {
		return err
	}
	if toSum >= sum {
		return limit("after memory plus swap: the kernel wants it not above that")
	}
	return nil
}

// sumV1 is the limit of memory plus swap that goes with the memory limit to.
func (p *planner) sumV1(m Memory, now, to, sum uint64) (uint64, error) {
	swap := m.Swap.amount(noLimit)
	if m.Swap.IsZero() {
		if sum == noLimit {
			return noLimit, nil
		}
		swap = sum - min(now, sum) // what swap alone may have stays what it is
	}
	if swap == noLimit {
		return noLimit, nil
	}
	if to == noLimit {
		e := &InvalidError{Field: "memory.swap.max", Value: m.Swap.String(),
			Reason: "cgroup v1 limits memory plus swap, so memory.max has to be a number"}
		if m.Swap.IsZero() {
			e.Field, e.Value = maxFile, m.Max.String()
			e.Reason = "cgroup v1 limits memory plus swap, and swap has a limit: set Swap to max in the same update"
		}
		return 0, e
	}
	swap -= swap % p.page
	if to+swap >= hugeV1 || to+swap < to {
		return 0, &InvalidError{Field: "memory.swap.max", Value: strconv.FormatUint(swap, 10), Reason: "too much together with memory.max"}
	}
	return to + swap, nil
}

// addLimitV1 plans a limit unless it holds already. swap is how much swap is
// left to the group with it.
func (p *planner) addLimitV1(knob, file string, from, to, swap uint64, why string) error {
	if from == to {
		return nil
	}
	c := Change{
		Controller: ControllerMemory, Knob: knob, File: file,
		Old: amountText(from, "-1"), New: amountText(to, "-1"), Why: why, stage: memoryStage(from, to),
		canon: canonAmount,
	}
	if c.want = c.New; to == noLimit {
		c.want = wordMax
	}
	switch {
	case to > from:
	case file == limitV1:
		if err := p.lower(&c, 1, from, to, swap); err != nil {
			return err
		}
	default:
		// The kernel drops page cache if the sum is above it.
		usage, err := p.memoryAmount(knob, memswUsageV1)
		if err != nil {
			return err
		}
		c.slow = usage > to
	}
	p.add(c)
	return nil
}

// absentV1 refuses each knob that v1 has no file for.
func absentV1(m Memory) (errs []error) {
	for _, k := range []struct {
		knob    string
		named   bool
		instead string
	}{
		{highFile, !m.High.IsZero(), "memory.soft_limit_in_bytes is something else"},
		{"memory.low", !m.Low.IsZero(), "memory.soft_limit_in_bytes is something else"},
		{"memory.min", !m.Min.IsZero(), ""},
		{"memory.swap.high", !m.SwapHigh.IsZero(), ""},
		{"memory.oom.group", m.OOMGroup != Keep, ""},
	} {
		if k.named {
			errs = append(errs, notOnV1(k.knob, k.instead))
		}
	}
	return errs
}
