// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import "syscall"

const freezerState = "freezer.state"

// freezerKinds are the files of v1's freezer (kernel/cgroup/legacy_freezer.c).
func (t *tree) freezerKinds() []kind {
	bit := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	return []kind{
		{name: freezerState, ctl: freezer, where: notTop, init: "THAWED", show: showFreezer, store: storeFreezer},
		shows("freezer.self_freezing", freezer, notTop, func(g *group) string { return bit(g.text(freezerState) != "THAWED") }),
		shows("freezer.parent_freezing", freezer, notTop, func(g *group) string { return bit(g.parent.freezing()) }),
	}
}

// freezing reports whether g or a group above is to be frozen.
func (g *group) freezing() bool {
	for ; !g.isTop(); g = g.parent {
		if g.text(freezerState) != "THAWED" {
			return true
		}
	}
	return false
}

func showFreezer(g *group) (string, error) {
	switch {
	case !g.freezing():
		return "THAWED", nil
	case g.stuck():
		return "FREEZING", nil
	}
	return "FROZEN", nil
}

func storeFreezer(g *group, data string) error {
	switch state := strip(data); state {
	case "FROZEN", "THAWED":
		g.setText(freezerState, state)
	default:
		return syscall.EINVAL
	}
	var thawed []int
	g.each(func(b *group) { thawed = append(thawed, b.procs...) })
	for _, pid := range thawed {
		if p := g.m.procs[pid]; p != nil && p.doomed {
			g.m.end(pid)
		}
	}
	return nil
}

// frozenV1 reports whether v1's freezer holds the process, from SIGKILL too.
func (p *process) frozenV1() bool {
	for t, g := range p.in {
		if !t.v2 && t.has.has(freezer) && g.freezing() {
			return true
		}
	}
	return false
}
