// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"strings"
	"syscall"
)

// memoryKinds are the files of memory (mm/memcontrol.c).
func (t *tree) memoryKinds() []kind {
	if !t.v2 {
		return t.memoryKindsV1()
	}
	kinds := []kind{
		shows("memory.current", memory, notTop, func(g *group) string { return bytes(g.current()) }),
		{name: "memory.max", ctl: memory, where: notTop, init: "max", store: storeMax},
		{name: "memory.high", ctl: memory, where: notTop, init: "max", store: storeHigh},
		keeps("memory.low", memory, "0", pagesV2), keeps("memory.min", memory, "0", pagesV2),
		keeps("memory.swap.max", memory, "max", pagesV2),
		keeps("memory.oom.group", memory, "0", func(_ *group, data string) (string, error) {
			n, err := parseInt(strip(data), 32)
			if err == nil && n != 0 && n != 1 {
				err = syscall.EINVAL
			}
			return strconv.FormatInt(n, 10), err
		}),
		shows("memory.swap.current", memory, notTop, func(g *group) string { return bytes(g.swapped()) }),
		shows("memory.swap.events", memory, notTop, func(*group) string {
			return counters("high", uint64(0), "max", uint64(0), "fail", uint64(0))
		}),
		shows("memory.events", memory, notTop, func(g *group) string { return g.memoryEvents(true) }),
		shows("memory.events.local", memory, notTop, func(g *group) string { return g.memoryEvents(false) }),
		shows("memory.stat", memory, everywhere, memoryStat),
	}
	kinds = append(kinds, t.since(5, 8, keeps("memory.swap.high", memory, "max", pagesV2))...)
	return append(kinds, t.since(5, 19,
		shows("memory.peak", memory, notTop, func(g *group) string { return bytes(max(g.work.peak, g.current())) }),
		kind{name: "memory.reclaim", ctl: memory, where: everywhere, blind: true, log: true, store: storeReclaim},
	)...)
}

func pagesV2(g *group, data string) (string, error) {
	n, err := g.m.parsePages(data, "max", g.m.cfg.PageSize)
	return bytes(n), err
}

// storeMax sets the limit, reclaims, and kills while more is in use.
func storeMax(g *group, data string) error {
	n, err := g.m.parsePages(data, "max", g.m.cfg.PageSize)
	if err != nil {
		return err
	}
	g.setText("memory.max", bytes(n))
	if now := g.current(); now > n {
		g.reclaim(now-n, true)
		g.killAbove(n)
	}
	return nil
}

// storeHigh sets the limit and reclaims, and kills nobody.
func storeHigh(g *group, data string) error {
	n, err := g.m.parsePages(data, "max", g.m.cfg.PageSize)
	if err != nil {
		return err
	}
	g.setText("memory.high", bytes(n))
	if now := g.current(); now > n {
		g.reclaim(now-n, true)
	}
	return nil
}

func storeReclaim(g *group, data string) error {
	amount, _, _ := strings.Cut(strip(data), " ") // swappiness=N may follow
	n, err := g.m.parsePages(amount, "", g.m.cfg.PageSize)
	if err != nil {
		return err
	}
	if n != noLimit && g.reclaim(n, true) < n {
		return syscall.EAGAIN
	}
	if n == noLimit {
		g.reclaim(n, true)
		return syscall.EAGAIN
	}
	return nil
}

// memoryEvents is memory.events, which counts what happens below too.
func (g *group) memoryEvents(below bool) string {
	sum := func(f func(*work) uint64) uint64 {
		if below {
			return g.sum(f)
		}
		return f(&g.work)
	}
	text := counters("low", uint64(0),
		"high", sum(func(w *work) uint64 { return w.high }),
		"max", sum(func(w *work) uint64 { return w.max }),
		"oom", sum(func(w *work) uint64 { return w.oom }),
		"oom_kill", sum(func(w *work) uint64 { return w.oomKill }))
	if !g.m.cfg.Kernel.before(5, 17) {
		text += counters("oom_group_kill", sum(func(w *work) uint64 { return w.oomGroup }))
	}
	return text
}

func memoryStat(g *group) string {
	var u Usage
	g.each(func(b *group) {
		u.Anon += b.work.Anon
		u.File += b.work.File
		u.Kernel += b.work.Kernel
	})
	if g.v2 {
		return counters("anon", u.Anon, "file", u.File, "kernel", u.Kernel, "kernel_stack", uint64(0), "shmem", uint64(0),
			"inactive_anon", u.Anon, "active_anon", uint64(0), "inactive_file", u.File, "active_file", uint64(0), "unevictable", uint64(0),
			"slab_reclaimable", uint64(0), "slab_unreclaimable", u.Kernel, "slab", u.Kernel,
			"workingset_refault_anon", uint64(0), "workingset_refault_file", uint64(0), "pgscan", uint64(0), "pgsteal", uint64(0),
			"pgfault", uint64(0), "pgmajfault", uint64(0))
	}
	w := g.work
	return counters("cache", w.File, "rss", w.Anon, "swap", w.Swap, "inactive_file", w.File, "active_file", uint64(0),
		"hierarchical_memory_limit", g.memoryLimit(),
		"total_cache", u.File, "total_rss", u.Anon, "total_swap", g.swapped(), "total_inactive_anon", u.Anon, "total_active_anon", uint64(0),
		"total_inactive_file", u.File, "total_active_file", uint64(0), "total_unevictable", uint64(0))
}
