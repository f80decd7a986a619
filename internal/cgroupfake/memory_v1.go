// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"syscall"
)

const (
	limitV1 = "memory.limit_in_bytes"
	memswV1 = "memory.memsw.limit_in_bytes"
)

func (t *tree) memoryKindsV1() []kind {
	unlimited := func(g *group) string { return g.m.bytesV1(noLimit, g.m.cfg.PageSize) }
	fails := func(name string, of func(*work) *uint64) kind {
		return kind{name: name, ctl: memory, log: true,
			show:  func(g *group) (string, error) { return bytes(*of(&g.work)), nil },
			store: func(g *group, _ string) error { *of(&g.work) = 0; return nil }}
	}
	return []kind{
		shows("memory.usage_in_bytes", memory, everywhere, func(g *group) string { return bytes(g.current()) }),
		{name: "memory.max_usage_in_bytes", ctl: memory, log: true,
			show:  func(g *group) (string, error) { return bytes(max(g.work.peak, g.current())), nil },
			store: func(g *group, _ string) error { g.work.peak = g.current(); return nil }},
		{name: limitV1, ctl: memory, initF: unlimited, store: storeLimit},
		{name: memswV1, ctl: memory, initF: unlimited, store: storeMemsw},
		{name: "memory.soft_limit_in_bytes", ctl: memory, initF: unlimited, store: func(g *group, data string) error {
			n, err := g.m.parsePages(data, "-1", g.m.cfg.PageSize)
			if err == nil && g.isTop() {
				err = syscall.EINVAL
			}
			if err == nil {
				g.setText("memory.soft_limit_in_bytes", g.m.bytesV1(n, g.m.cfg.PageSize))
			}
			return err
		}},
		shows("memory.memsw.usage_in_bytes", memory, everywhere, func(g *group) string { return bytes(g.current() + g.swapped()) }),
		fails("memory.failcnt", func(w *work) *uint64 { return &w.fails }),
		fails("memory.memsw.failcnt", func(w *work) *uint64 { return &w.swapFails }),
		shows("memory.kmem.usage_in_bytes", memory, everywhere, func(g *group) string {
			return bytes(g.sum(func(w *work) uint64 { return w.Kernel }))
		}),
		{name: "memory.oom_control", ctl: memory, log: true, show: func(g *group) (string, error) {
			return "oom_kill_disable 0\nunder_oom 0\noom_kill " + strconv.FormatUint(g.work.oomKill, 10) + "\n", nil
		}, store: func(*group, string) error { return nil }},
		shows("memory.stat", memory, everywhere, memoryStat),
		{name: "memory.force_empty", ctl: memory, where: notTop, blind: true, log: true, store: func(g *group, _ string) error {
			g.reclaim(noLimit, true)
			return nil
		}},
		{name: "memory.swappiness", ctl: memory, init: "60", store: func(g *group, data string) error {
			n, err := parseUint(data)
			if err == nil && n > 200 {
				err = syscall.EINVAL
			}
			if err == nil {
				g.setText("memory.swappiness", strconv.FormatUint(n, 10))
			}
			return err
		}},
	}
}

// storeLimit wants the limit not above that of memory and swap, and frees what
// can be freed before it says no.
func storeLimit(g *group, data string) error {
	n, err := g.m.parsePages(data, "-1", g.m.cfg.PageSize)
	switch {
	case err != nil:
		return err
	case g.isTop(), n > g.swapLimit():
		return syscall.EINVAL
	}
	if now := g.current(); now > n {
		if g.reclaim(now-n, true); g.current() > n {
			return syscall.EBUSY
		}
	}
	g.setText(limitV1, g.m.bytesV1(n, g.m.cfg.PageSize))
	return nil
}

func storeMemsw(g *group, data string) error {
	n, err := g.m.parsePages(data, "-1", g.m.cfg.PageSize)
	switch {
	case err != nil:
		return err
	case g.isTop(), n < g.amount(limitV1):
		return syscall.EINVAL
	}
	if now := g.current() + g.swapped(); now > n {
		if g.reclaim(now-n, false); g.current()+g.swapped() > n {
			return syscall.EBUSY
		}
	}
	g.setText(memswV1, g.m.bytesV1(n, g.m.cfg.PageSize))
	return nil
}
