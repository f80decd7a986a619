// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// coreKinds are the files of every group (kernel/cgroup/cgroup.c, cgroup-v1.c).
func (t *tree) coreKinds() []kind {
	procs := kind{name: "cgroup.procs", log: true, show: showProcs, store: storeProcs}
	if !t.v2 {
		return []kind{
			procs,
			{name: "tasks", log: true, show: showProcs, store: storeProcs},
			{name: "cgroup.clone_children", init: "0", store: func(g *group, data string) error {
				n, err := parseUint(data)
				if err != nil {
					return err
				}
				g.setText("cgroup.clone_children", strconv.Itoa(min(1, int(min(n, 1)))))
				return nil
			}},
			{name: "cgroup.event_control", blind: true, log: true, store: func(*group, string) error { return nil }},
			{name: "notify_on_release", init: "0", store: keepUint("notify_on_release")},
		}
	}
	limit := func(name string) kind {
		return kind{name: name, init: "max", store: func(g *group, data string) error {
			data = strip(data)
			if data == "max" {
				g.setText(name, data)
				return nil
			}
			n, err := parseInt(data, 32)
			switch {
			case err != nil:
				return err
			case n < 0:
				return syscall.ERANGE
			}
			g.setText(name, strconv.FormatInt(n, 10))
			return nil
		}}
	}
	kinds := []kind{
		procs,
		{name: "cgroup.threads", log: true, show: showThreads, store: storeThreads},
		{name: "cgroup.type", where: notTop, log: true, show: func(g *group) (string, error) { return g.domain(), nil }, store: storeType},
		shows("cgroup.controllers", core, everywhere, func(g *group) string { return blankLine(g.under.text()) }),
		{name: "cgroup.subtree_control", log: true, show: func(g *group) (string, error) { return blankLine(g.subtree.text()), nil }, store: storeSubtree},
		shows("cgroup.events", core, notTop, func(g *group) string { return g.state().text() }),
		limit("cgroup.max.depth"), limit("cgroup.max.descendants"),
		shows("cgroup.stat", core, everywhere, func(g *group) string {
			return fmt.Sprintf("nr_descendants %d\nnr_dying_descendants 0\n", g.descendants())
		}),
		{name: "cgroup.freeze", where: notTop, init: "0", store: storeFreeze},
		shows("cpu.stat", core, everywhere, showCPUStat),
		{name: bpfDevices, init: "all", store: storeProgram},
	}
	kinds = append(kinds, t.since(5, 14, kind{name: "cgroup.kill", where: notTop, blind: true, log: true, store: storeKill})...)
	return append(kinds, t.pressureKinds()...)
}

func keepUint(name string) func(*group, string) error {
	return func(g *group, data string) error {
		n, err := parseUint(data)
		if err == nil {
			g.setText(name, strconv.FormatUint(n, 10))
		}
		return err
	}
}

func blankLine(text string) string {
	if text == "" {
		return "\n"
	}
	return text
}

func (e events) text() string {
	bit := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	return "populated " + bit(e.populated) + "\nfrozen " + bit(e.frozen) + "\n"
}

// state is what cgroup.events says now.
func (g *group) state() events {
	e := events{populated: g.populated()}
	for a := g; !a.isTop(); a = a.parent {
		if a.text("cgroup.freeze") == "1" {
			e.frozen = !g.stuck()
		}
	}
	return e
}

// settle announces what has changed in cgroup.events at and around g.
func (g *group) settle() {
	if !g.v2 {
		return
	}
	look := func(g *group) {
		if now := g.state(); now != g.was && !g.isTop() {
			g.was = now
			g.announce("cgroup.events")
		}
	}
	g.each(look)
	g.parent.up(look)
}

// domain is what cgroup.type says.
func (g *group) domain() string {
	switch {
	case g.threaded:
		return "threaded"
	case !g.validDomain():
		return "domain invalid"
	case g.threadRoot():
		return "domain threaded"
	}
	return "domain"
}

// threadRoot reports whether threads of a process in g may be below it.
func (g *group) threadRoot() bool {
	if g.threaded || g.isTop() {
		return false
	}
	if len(g.procs) > 0 && g.subtree&threaded != 0 {
		return true
	}
	for _, c := range g.children {
		if c.threaded {
			return true
		}
	}
	return false
}

// validDomain reports whether processes can be in g.
func (g *group) validDomain() bool {
	if g.isTop() || g.threaded {
		return true
	}
	return !g.parent.threaded && !g.parent.threadRoot() && g.parent.validDomain()
}

// canBeThreadRoot is the kernel's cgroup_can_be_thread_root.
func (g *group) canBeThreadRoot() bool {
	if g.isTop() {
		return true
	}
	if g.threaded || g.subtree&^threaded != 0 {
		return false
	}
	for _, c := range g.children {
		if !c.threaded && c.populated() {
			return false
		}
	}
	return true
}

func storeType(g *group, data string) error {
	if strip(data) != "threaded" {
		return syscall.EINVAL
	}
	if g.threaded {
		return nil
	}
	root := g.parent
	for root.threaded {
		root = root.parent
	}
	if g.populated() || g.subtree&^threaded != 0 || !root.validDomain() || !root.canBeThreadRoot() {
		return syscall.EOPNOTSUPP
	}
	g.threaded = true
	return nil
}

func storeSubtree(g *group, data string) error {
	var enable, disable ctls
	for word := range strings.SplitSeq(strip(data), " ") {
		if word == "" {
			continue
		}
		c, ok := ctlNamed(word[1:])
		if !ok || !g.m.cfg.knows(c, c.name(true)) || word[0] != '+' && word[0] != '-' {
			return syscall.EINVAL
		}
		enable, disable = enable&^ctlsOf(c), disable&^ctlsOf(c)
		if word[0] == '+' {
			enable |= ctlsOf(c)
		} else {
			disable |= ctlsOf(c)
		}
	}
	enable &^= g.subtree
	disable &= g.subtree
	for _, c := range enable.list() {
		if !g.under.has(c) {
			return syscall.ENOENT
		}
	}
	for _, c := range g.children {
		if c.subtree&disable != 0 {
			return syscall.EBUSY
		}
	}
	if err := g.mayEnable(enable); err != nil {
		return err
	}
	g.subtree = g.subtree&^disable | enable
	for _, c := range g.children {
		c.under = g.subtree
		for _, ctl := range disable.list() {
			c.forget(ctl)
		}
	}
	return nil
}

// mayEnable is the kernel's cgroup_vet_subtree_control_enable.
func (g *group) mayEnable(enable ctls) error {
	switch {
	case enable == 0:
		return nil
	case !g.validDomain():
		return syscall.EOPNOTSUPP
	case g.isTop():
		return nil
	case enable&^threaded != 0 && (g.threaded || g.threadRoot()):
		return syscall.EOPNOTSUPP
	case enable&^threaded == 0 && (g.canBeThreadRoot() || g.threaded):
		return nil
	case len(g.procs) > 0:
		return syscall.EBUSY
	}
	return nil
}

// forget drops what the files of a controller held.
func (g *group) forget(c ctl) {
	g.lives[c]++
	for file := range g.texts {
		if k := g.kinds[file]; k != nil && k.ctl == c {
			delete(g.texts, file)
		}
	}
}

// knows reports whether the kernel has the controller, mounted here or not.
func (c *Config) knows(ctl ctl, name string) bool {
	return !slices.Contains(c.Without, name) && (ctl != misc || !c.Kernel.before(5, 13))
}

func storeFreeze(g *group, data string) error {
	n, err := parseInt(strip(data), 32)
	switch {
	case err != nil:
		return err
	case n < 0 || n > 1:
		return syscall.ERANGE
	}
	g.setText("cgroup.freeze", strconv.FormatInt(n, 10))
	g.settle()
	return nil
}

func storeKill(g *group, data string) error {
	n, err := parseInt(strip(data), 32)
	switch {
	case err != nil:
		return err
	case n != 1:
		return syscall.ERANGE
	case g.threaded:
		return syscall.EOPNOTSUPP
	}
	var all []int
	g.each(func(b *group) { all = append(all, b.procs...) })
	for _, pid := range all {
		g.m.end(pid)
	}
	return nil
}
