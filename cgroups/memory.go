// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// memory plans the knobs of the memory controller.
func (p *planner) memory(m Memory) error {
	if m == (Memory{}) {
		return nil
	}
	v, err := p.under(ControllerMemory)
	if err != nil {
		return err
	}
	if v == 1 {
		return p.memoryV1(m)
	}
	return errors.Join(p.oomGroup(m.OOMGroup), p.memoryV2(m))
}

func (p *planner) oomGroup(s Switch) error {
	if s == Keep {
		return nil
	}
	want := "0"
	if s == On {
		want = "1"
	}
	return p.simple(ControllerMemory, "memory.oom.group", want, grow, "")
}

// memoryStage is the stage of a limit of memory.
func memoryStage(from, to uint64) stage {
	if to < from {
		return reclaim
	}
	return grow
}

// memoryAmount reads a file that holds bytes.
func (p *planner) memoryAmount(knob, file string) (uint64, error) {
	text, err := p.knob(ControllerMemory, knob, file)
	if err != nil {
		return 0, err
	}
	n, err := parseAmount(text)
	if err != nil {
		return 0, &FileError{Op: "parse", Path: p.path(ControllerMemory, file), Data: text, Err: err}
	}
	return n, nil
}

// lower completes a change that makes the limit of memory smaller, from what it
// is to to. swap is how much swap v1's limits leave to the group.
func (p *planner) lower(c *Change, version int, from, to, swap uint64) error {
	file := usageFile
	if version == 1 {
		file = usageV1
	}
	usage, err := p.memoryAmount(maxFile, file)
	if err != nil {
		return err
	}
	if version == 2 && p.cfg.Shrink != Force {
		c.guard = guard{usageFile, to} // below the usage, the kernel kills
	}
	if usage <= to {
		return nil
	}
	why := strconv.FormatUint(usage, 10) + " bytes are in use: "
	switch p.cfg.Shrink {
	case Refuse:
		return &InUseError{Knob: maxFile, Limit: to, Usage: usage}
	case Force:
		c.slow = true
		if why += "the kernel reclaims them, and kills if it cannot"; version == 1 {
			why = strings.Replace(why, "kills", "refuses", 1)
		}
	case Gradual:
		text, err := p.read(ControllerMemory, "memory.stat")
		if err != nil {
			return err
		}
		stat := memoryStat{text: text, version: version}
		if stays := stat.stays(usage, min(swap, p.swapFree(version))); stays > to {
			return &InUseError{Knob: maxFile, Limit: to, Usage: stays}
		}
		c.lowering = &lowering{v: version, file: c.File, from: from, to: to, page: p.page, swap: swap, guard: p.cfg.Guard.withDefaults()}
		why += "it comes down in steps, and is put back if the group suffers"
	}
	if c.Why != "" {
		why += "; " + c.Why
	}
	c.Why = why
	return nil
}

// memoryStat is the text of memory.stat.
type memoryStat struct {
	text    string
	version int
}

// sum adds up those of the keys that are there. On v1 the figures that include
// groups below begin with "total_".
func (s memoryStat) sum(keys ...string) (n uint64) {
	for line := range strings.Lines(s.text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if s.version == 1 {
			var ok bool
			if key, ok = strings.CutPrefix(key, "total_"); !ok {
				continue
			}
		}
		if slices.Contains(keys, key) {
			if v, err := strconv.ParseUint(value, 10, 64); err == nil {
				n += v
			}
		}
	}
	return n
}

// stays is the usage without what the kernel can take away: page cache that is
// on the LRU lists, reclaimable slabs, and as much of the anonymous memory there
// as fits into the swap. What is locked into memory is on neither list.
func (s memoryStat) stays(usage, swap uint64) uint64 {
	can := s.sum("inactive_file", "active_file", "slab_reclaimable") + min(swap, s.sum("inactive_anon", "active_anon"))
	return usage - min(can, usage)
}

// ErrInUse is matched by errors that say a limit was not set because more than
// that is in use and cannot be taken away.
var ErrInUse = errors.New("more is in use")

// InUseError says how much stands against a limit. It matches [ErrInUse].
type InUseError struct {
	Knob  string
	Limit uint64 // what was to be set
	Usage uint64 // what is in use, or of it what cannot be reclaimed
	Err   error  // the kernel's own answer; nil if it was not asked
}

// Error reads "memory.max 1048576: more is in use: 2097152".
func (e *InUseError) Error() string {
	s := e.Knob + " " + strconv.FormatUint(e.Limit, 10) + ": " + ErrInUse.Error() + ": " + strconv.FormatUint(e.Usage, 10)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is [ErrInUse].
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// Unwrap gives the kernel's own answer.
func (e *InUseError) Unwrap() error { return e.Err }
