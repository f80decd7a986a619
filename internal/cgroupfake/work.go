// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import "syscall"

// Usage is what the work of one group has in use and has used, without the
// groups below it.
type Usage struct {
	Anon   uint64 // bytes that only swapping frees
	File   uint64 // bytes of page cache, which reclaim drops
	Kernel uint64 // bytes that nothing frees
	Swap   uint64 // bytes swapped out
	Huge   uint64 // bytes of huge pages of the first size

	CPUUsec, Periods, Throttled, ThrottledUsec uint64
}

// work is a group's usage with what the kernel has counted.
type work struct {
	Usage
	peak                                     uint64
	high, max, oom, oomKill, oomGroup, fails uint64
	swapFails, forkFails, hugeFails          uint64
	stalls                                   [3]Stall
}

// SwapFree implements [kernfs.FakeMachine].
func (m *Machine) SwapFree() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Swap - min(m.swap, m.cfg.Swap)
}

// Usage is what the group at path has in use.
func (m *Machine) Usage(path string) (u Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.find(path, under(memory)); g != nil {
		u = g.work.Usage
	}
	if g := m.find(path, under(cpu)); g != nil {
		w := g.work
		u.CPUUsec, u.Periods, u.Throttled, u.ThrottledUsec = w.CPUUsec, w.Periods, w.Throttled, w.ThrottledUsec
	}
	return u
}

// SetUsage makes the work of the group at path want so much. Above a limit the
// machine does what a kernel does: it reclaims, and kills if that is not enough.
func (m *Machine) SetUsage(path string, u Usage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var charged *group
	err := m.everywhere(path, func(g *group) {
		swapped := g.work.Swap
		g.work.Usage = u
		if g.tree.has.has(memory) && g.under.has(memory) {
			m.swap += u.Swap - swapped
			charged = g
		}
	})
	if charged != nil {
		charged.charge()
	}
	return err
}

// sum adds f over g and everything below it.
func (g *group) sum(f func(*work) uint64) uint64 {
	n := f(&g.work)
	for _, c := range g.children {
		n += c.sum(f)
	}
	return n
}

// current is the memory in use in g and below it.
func (g *group) current() uint64 {
	return g.sum(func(w *work) uint64 { return w.Anon + w.File + w.Kernel })
}

func (g *group) swapped() uint64 { return g.sum(func(w *work) uint64 { return w.Swap }) }

func (g *group) cpuWork() (u Usage) {
	g.each(func(b *group) { u.CPUUsec += b.work.CPUUsec })
	u.Periods, u.Throttled, u.ThrottledUsec = g.work.Periods, g.work.Throttled, g.work.ThrottledUsec
	return u
}

// free gives back what one of n processes of the group has.
func (w *work) free(n int) {
	if n > 0 {
		w.Anon -= w.Anon / uint64(n)
		w.Swap -= w.Swap / uint64(n)
	}
	if n == 1 {
		w.Anon, w.Swap, w.Kernel = 0, 0, 0
	}
}

// charge makes the limits of g and above hold.
func (g *group) charge() {
	g.up(func(a *group) {
		if a.isTop() {
			return
		}
		limit := a.memoryLimit()
		if now := a.current(); now > limit {
			a.work.max++
			a.work.fails++
			a.announceMemory()
			a.reclaim(now-limit, true)
			a.killAbove(limit)
		}
		if high := a.amount("memory.high"); a.v2 && a.current() > high {
			a.work.high++
			a.announceMemory()
			a.reclaim(a.current()-high, true)
		}
		if both := a.swapLimit(); !a.v2 && a.current()+a.swapped() > both {
			a.work.swapFails++
			a.reclaim(a.current()+a.swapped()-both, false)
			a.killAboveBoth(both)
		}
		a.work.peak = max(a.work.peak, a.current())
	})
}

func (g *group) memoryLimit() uint64 {
	if g.v2 {
		return g.amount("memory.max")
	}
	return g.amount("memory.limit_in_bytes")
}

// swapLimit is v1's limit of memory and swap together.
func (g *group) swapLimit() uint64 {
	if !g.has("memory.memsw.limit_in_bytes") {
		return noLimit
	}
	return g.amount("memory.memsw.limit_in_bytes")
}

// reclaim frees up to want bytes of g and below: page cache, and anonymous
// memory as far as there is swap. What memory.min of a group below protects
// stays. It returns what was freed.
func (g *group) reclaim(want uint64, swap bool) (freed uint64) {
	g.each(func(b *group) {
		if b != g && b.v2 && b.current() <= b.amount("memory.min") {
			return
		}
		n := min(b.work.File, want-freed)
		b.work.File -= n
		freed += n
	})
	if !swap {
		return freed
	}
	g.each(func(b *group) {
		if b != g && b.v2 && b.current() <= b.amount("memory.min") {
			return
		}
		n := min(b.work.Anon, want-freed, g.m.cfg.Swap-g.m.swap)
		b.up(func(a *group) {
			switch most := a.amount("memory.swap.max"); {
			case a.isTop() || !a.v2:
			case most != noLimit:
				n = min(n, most-min(most, a.swapped()))
			}
		})
		b.work.Anon -= n
		b.work.Swap += n
		g.m.swap += n
		freed += n
	})
	return freed
}

// killAbove is the OOM killer: it ends processes of g and below, the largest
// first, until the usage is within limit or nobody is left to kill.
func (g *group) killAbove(limit uint64) {
	for g.current() > limit && g.oomKill() {
	}
}

func (g *group) killAboveBoth(limit uint64) {
	for g.current()+g.swapped() > limit && g.oomKill() {
	}
}

func (g *group) oomKill() bool {
	g.work.oom++
	defer g.announceMemory()
	var victim *group
	g.each(func(b *group) {
		if len(b.procs) > 0 && (victim == nil || b.work.Anon/uint64(len(b.procs)) > victim.work.Anon/uint64(len(victim.procs))) {
			victim = b
		}
	})
	if victim == nil {
		return false
	}
	whole := (*group)(nil)
	if g.v2 {
		for a := victim; ; a = a.parent {
			if a.text("memory.oom.group") == "1" {
				whole = a
			}
			if a == g {
				break
			}
		}
	}
	if whole == nil {
		victim.work.oomKill++
		victim.announceMemory()
		return g.m.kills(victim.procs[:1])
	}
	whole.work.oomGroup++
	var all []int
	whole.each(func(b *group) {
		b.work.oomKill += uint64(len(b.procs))
		all = append(all, b.procs...)
	})
	whole.announceMemory()
	return g.m.kills(all)
}

// kills ends processes and reports whether one is gone.
func (m *Machine) kills(victims []int) (any bool) {
	for _, pid := range append([]int(nil), victims...) {
		m.end(pid)
		any = any || m.procs[pid] == nil
	}
	return any
}

// announceMemory announces memory.events in g and above, and v1's
// memory.oom_control.
func (g *group) announceMemory() {
	if !g.v2 {
		g.announce("memory.oom_control")
		return
	}
	g.up(func(a *group) {
		if !a.isTop() {
			a.announce("memory.events")
		}
	})
}

// fork counts a new process in g against pids.max of g and above.
func (g *group) fork() error {
	for a := g; !a.isTop(); a = a.parent {
		if a.tasks()+1 > a.amount("pids.max") {
			g.work.forkFails++
			g.announce("pids.events")
			return syscall.EAGAIN
		}
	}
	return nil
}

// tasks are the processes in g and below it.
func (g *group) tasks() uint64 {
	n := uint64(len(g.procs))
	for _, c := range g.children {
		n += c.tasks()
	}
	return n
}
