// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"
)

const reclaimFile = "memory.reclaim"

// memoryTree is what a shrink needs besides a tree's files.
type memoryTree interface {
	// writeSlow is write for what may take the kernel long: it ends with ctx.
	// flag is 0 or O_NONBLOCK.
	writeSlow(ctx context.Context, ctl Controller, file, data string, flag int) error
	// stalls fills p with the group's memory pressure.
	stalls(p *Pressure) error
	// swapFree is how many bytes the group may still swap out; v1's own limit
	// is not in it.
	swapFree(version int) uint64
}

// lowering is what a plan says about a limit that has to come below the usage.
type lowering struct {
	v        int
	file     string // the limit
	from, to uint64
	page     uint64
	swap     uint64 // v1: how much swap the limits leave to the group
	guard    Guard
}

// headroom is what has to be left between what cannot be reclaimed and the limit
// for the group to live on: the kernel's own memory for a process comes and goes
// by hundreds of kilobytes.
func (s *lowering) headroom() uint64 { return max(s.to/64, 1<<20) }

// shrinking is a shrink under way.
type shrinking struct {
	*lowering
	tree
	c       *Change
	reclaim bool // v2: the kernel has memory.reclaim
	resting uint64
	last    uint64 // what the limit is now
	step    uint64
	pause   time.Duration

	start, bestAt time.Time
	best          uint64 // the lowest usage so far
	gap           uint64 // how much was to go
	refaults      uint64 // at the start
	history       []stalled
	blind         bool // there is no pressure to read
	done          Shrunk
	stays         uint64
}

// stalled is a reading of the pressure's totals.
type stalled struct {
	at         time.Time
	some, full time.Duration
}

// lowerInSteps does the change. On failure the caller undoes it.
func (c *Change) lowerInSteps(ctx context.Context) error {
	s := &shrinking{lowering: c.lowering, tree: c.in, c: c, reclaim: true}
	s.last = s.from
	stop, err := s.run(ctx)
	s.done.Took = time.Since(s.start)
	switch {
	case stop == 0 && err == nil:
		c.Shrunk = &s.done
		return nil
	case stop == 0 && ctx.Err() != nil && !errors.Is(err, ErrBlocked):
		stop = StoppedByContext
	case stop == 0:
		return err
	}
	if usage, err := s.usage(); err == nil {
		s.done.After = usage
	}
	return &ShrinkError{Knob: c.Knob, Limit: s.to, Last: s.last, Stays: s.stays, Stop: stop, Shrunk: s.done, Err: err}
}

// run returns why it stopped; 0 and no error is success.
func (s *shrinking) run(ctx context.Context) (ShrinkStop, error) {
	usage, err := s.begin()
	if err != nil {
		return 0, err
	}
	goal := s.to - min(s.headroom()/2, s.to)
	for {
		load, stop, err := s.judge(ctx, usage)
		if stop != 0 || err != nil {
			return stop, err
		}
		if usage <= goal {
			ok, err := s.commit(ctx)
			if err != nil {
				return 0, err
			}
			if ok {
				return s.settle(ctx)
			}
		} else if load < 0.5 {
			if usage, err = s.squeeze(ctx, usage, goal); err != nil {
				return 0, err
			}
		}
		s.pace(load)
		if usage > goal {
			_ = rest(ctx, s.pause) // judge sees to the context
		}
		if usage, err = s.usage(); err != nil {
			return 0, err
		}
	}
}

func (s *shrinking) begin() (usage uint64, err error) {
	s.start = time.Now()
	s.bestAt = s.start
	s.pause = s.guard.Window / 100
	if s.v == 2 {
		text, err := s.read(ControllerMemory, highFile)
		if err == nil {
			s.resting, err = parseAmount(text)
		}
		if err != nil {
			return 0, err
		}
	}
	if usage, err = s.usage(); err != nil {
		return 0, err
	}
	s.done.Before, s.done.After, s.best = usage, usage, usage
	s.gap = usage - min(usage, s.to)
	s.step = max(s.gap/16, 1<<20)
	return usage, nil
}

func (s *shrinking) usage() (uint64, error) {
	file := usageFile
	if s.v == 1 {
		file = usageV1
	}
	text, err := s.read(ControllerMemory, file)
	if err != nil {
		return 0, err
	}
	return parseAmount(text)
}

// judge says whether to go on. load is the pressure since the last look as a
// share of what the guard allows.
func (s *shrinking) judge(ctx context.Context, usage uint64) (load float64, stop ShrinkStop, err error) {
	text, err := s.read(ControllerMemory, "memory.stat")
	if err != nil {
		return 0, 0, err
	}
	stat := memoryStat{text: text, version: s.v}
	s.stays = stat.stays(usage, min(s.swap, s.swapFree(s.v)))
	refaults := stat.sum("workingset_refault", "workingset_refault_anon", "workingset_refault_file") * s.page
	if s.history == nil {
		s.refaults = refaults
	}
	s.done.Refaulted = refaults - min(s.refaults, refaults)
	load, tripped, err := s.suffers()
	now := time.Now()
	if usage+max(s.gap/256, s.page) <= s.best {
		s.best, s.bestAt = usage, now
	}
	switch {
	case err != nil:
	case ctx.Err() != nil:
		return 0, StoppedByContext, context.Cause(ctx)
	case tripped:
		stop = StoppedByPressure
	case s.stays+s.headroom() > s.to:
		stop = StoppedUnreclaimable
	case s.blind && s.done.Refaulted > max(s.gap, s.done.Before/8):
		stop = StoppedByRefaults
	case now.Sub(s.bestAt) > s.guard.Window:
		stop = StoppedNoProgress
	}
	return load, stop, err
}

// suffers reads the pressure and compares it with the guard.
func (s *shrinking) suffers() (load float64, tripped bool, err error) {
	now := stalled{at: time.Now()}
	var p Pressure
	err = s.stalls(&p)
	if s.blind = errors.Is(err, ErrNotSupported); err != nil && !s.blind {
		return 0, false, err
	}
	now.some, now.full = p.Some.Total, p.Full.Total
	s.history = append(s.history, now)
	first := s.history[0]
	s.done.Some += now.some - s.history[max(0, len(s.history)-2)].some
	s.done.Full += now.full - s.history[max(0, len(s.history)-2)].full
	if len(s.history) > 1 {
		before := s.history[len(s.history)-2]
		if took := now.at.Sub(before.at); took > 0 {
			window := float64(s.guard.Window) / float64(took)
			load = max(float64(now.some-before.some)/float64(s.guard.Some), float64(now.full-before.full)/float64(s.guard.Full)) * window
		}
	}
	for len(s.history) > 2 && now.at.Sub(s.history[1].at) >= s.guard.Window {
		s.history = s.history[1:]
		first = s.history[0]
	}
	over := func(stalled, most time.Duration) bool { return most < s.guard.Window && stalled > most }
	return load, over(now.some-first.some, s.guard.Some) || over(now.full-first.full, s.guard.Full), nil
}

// pace makes steps larger while the group does not mind, and smaller and rarer
// when it does.
func (s *shrinking) pace(load float64) {
	switch {
	case load >= 0.5:
		s.step = max(s.step/2, 256<<10)
		s.pause = min(2*s.pause, s.guard.Window/10)
	case load < 0.1:
		s.step = min(2*s.step, max(s.gap/4, 1<<20))
		s.pause = s.guard.Window / 100
	}
}

// squeeze has the kernel reclaim one step of memory and lets the limit follow.
// It returns the usage then.
func (s *shrinking) squeeze(ctx context.Context, usage, goal uint64) (uint64, error) {
	step := min(usage-goal, s.step)
	target := usage - step
	target -= target % s.page
	s.done.Steps++
	var err error
	switch {
	case s.v == 1:
		// The kernel refuses what it cannot reclaim.
		if err = s.writeSlow(ctx, ControllerMemory, s.file, amountText(target, ""), 0); err == nil {
			s.last = target
		}
	case s.reclaim:
		err = s.writeSlow(ctx, ControllerMemory, reclaimFile, strconv.FormatUint(max(step, s.page), 10), 0)
		if isAbsent(err) {
			s.reclaim, err = false, nil
		}
	default:
		err = s.press(ctx, min(s.resting, target))
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EINTR) {
		return 0, err
	}
	now, err := s.usage()
	if err != nil {
		return 0, err
	}
	s.done.Reclaimed += usage - min(usage, now)
	return now, s.follow(now)
}

// press lowers memory.high for as long as the kernel takes to reclaim, whatever
// happens. If it cannot be put back, undoing the change tries again.
func (s *shrinking) press(ctx context.Context, high uint64) error {
	err := s.writeSlow(ctx, ControllerMemory, highFile, amountText(high, wordMax), 0)
	back := write{file: highFile, data: amountText(s.resting, wordMax)}
	if e := s.write(ControllerMemory, back.file, back.data); e != nil {
		s.c.undo = []write{{file: s.c.File, data: s.c.Old}, back}
		s.c.other, s.c.otherWas = highFile, back.data
		err = errors.Join(err, e)
	}
	return err
}

// follow sets the limit as far above the usage as the target is below it: a
// group that grows then comes to its limit no sooner than it would when all is
// done.
func (s *shrinking) follow(usage uint64) error {
	limit := max(s.to, usage+max(usage-min(usage, s.to), 2*s.headroom()))
	limit = min(limit-limit%s.page, s.from)
	if limit == s.last || s.v == 2 && limit > s.last {
		return nil
	}
	if err := s.write(ControllerMemory, s.file, amountText(limit, "-1")); err != nil {
		return err
	}
	s.last = limit
	return nil
}

// commit sets the limit itself. ok is false if the group has grown meanwhile.
func (s *shrinking) commit(ctx context.Context) (ok bool, err error) {
	usage, err := s.usage()
	if err != nil || usage > s.to {
		return false, err
	}
	// Where the kernel knows O_NONBLOCK here (Linux 6.16) it does not kill even
	// if the group grows in this moment; on v1 it never does.
	err = s.writeSlow(ctx, ControllerMemory, s.file, s.c.New, syscall.O_NONBLOCK)
	if s.v == 1 && errors.Is(err, syscall.EBUSY) {
		return false, nil
	}
	if err == nil {
		s.last = s.to
	}
	return err == nil, err
}

// settle watches the group for a moment: that what was taken away is missed
// shows only once it is wanted again. A quiet group is soon let go.
func (s *shrinking) settle(ctx context.Context) (ShrinkStop, error) {
	for end := time.Now().Add(s.guard.Window); ; {
		usage, err := s.usage()
		if err != nil {
			return 0, err
		}
		s.done.After = usage
		s.bestAt = time.Now() // there is nothing more to gain
		load, stop, err := s.judge(ctx, usage)
		switch {
		case err != nil && stop != StoppedByContext:
			return 0, err
		case stop == StoppedByContext:
			return 0, nil // the limit holds and nobody has complained
		case stop != 0:
			return stop, nil
		case time.Now().After(end):
			return 0, nil
		case len(s.history) > 1 && load < 0.25 && s.quiet():
			return 0, nil
		}
		_ = rest(ctx, s.guard.Window/20)
	}
}

// quiet reports whether the last two looks were far enough apart to tell.
func (s *shrinking) quiet() bool {
	n := len(s.history)
	return s.history[n-1].at.Sub(s.history[n-2].at) >= s.guard.Window/20
}
