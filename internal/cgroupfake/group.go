// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// group is one cgroup in one hierarchy. The machine's lock guards it.
type group struct {
	*tree
	parent   *group
	name     string
	path     string // from the top; empty for it
	level    int
	children map[string]*group
	ino      uint64
	gone     bool

	under    ctls // v2: whose files it has; v1: all of the tree
	subtree  ctls // cgroup.subtree_control
	threaded bool

	lives  [numCtls + 1]uint64 // how often files have gone away, by controller; the last is pressure
	texts  map[string]string   // what files hold that do not hold what a new group's do
	xattrs map[string]string
	told   map[string]uint64 // announcements, by file
	was    events

	procs []int // ascending
	work  work
}

// events is what cgroup.events says.
type events struct{ populated, frozen bool }

func (m *Machine) newGroup(t *tree, parent *group, name string) *group {
	m.lastIno++
	g := &group{tree: t, parent: parent, name: name, path: name, ino: m.lastIno}
	if parent != nil {
		if parent.path != "" {
			g.path = parent.path + "/" + name
		}
		g.level = parent.level + 1
		g.under = t.has
		if t.v2 {
			g.under = parent.subtree
		}
		if parent.children == nil {
			parent.children = make(map[string]*group)
		}
		parent.children[name] = g
	}
	return g
}

// below is the group at path, or nil.
func (g *group) below(path string) *group {
	if path == "" {
		return g
	}
	for name := range strings.SplitSeq(path, "/") {
		if g = g.children[name]; g == nil {
			return nil
		}
	}
	return g
}

// sorted are the children by name.
func (g *group) sorted() []*group {
	if len(g.children) == 0 {
		return nil
	}
	names := make([]string, 0, len(g.children))
	for name := range g.children {
		names = append(names, name)
	}
	slices.Sort(names)
	all := make([]*group, len(names))
	for i, name := range names {
		all[i] = g.children[name]
	}
	return all
}

// each calls f with g and every group below it, parents first.
func (g *group) each(f func(*group)) {
	f(g)
	for _, c := range g.sorted() {
		c.each(f)
	}
}

// up calls f with g and every group above it.
func (g *group) up(f func(*group)) {
	for ; g != nil; g = g.parent {
		f(g)
	}
}

func (g *group) isTop() bool { return g.parent == nil }

// text is what the file holds, without the last newline.
func (g *group) text(file string) string {
	if s, ok := g.texts[file]; ok {
		return s
	}
	if k := g.kinds[file]; k != nil {
		return k.fresh(g)
	}
	return ""
}

// setText makes the file hold text.
func (g *group) setText(file, text string) {
	if k := g.kinds[file]; k != nil && text == k.fresh(g) {
		delete(g.texts, file)
		return
	}
	if g.texts == nil {
		g.texts = make(map[string]string)
	}
	g.texts[file] = text
}

// descendants is how many groups are below g.
func (g *group) descendants() int {
	n := 0
	for _, c := range g.children {
		n += 1 + c.descendants()
	}
	return n
}

// mkdir makes the child name.
func (g *group) mkdir(name string) error {
	switch {
	case g.gone:
		return syscall.ENOENT
	case g.children[name] != nil || g.has(name):
		return syscall.EEXIST
	case strings.Contains(name, "\n"):
		return syscall.EINVAL
	case len(name) > 255:
		return syscall.ENAMETOOLONG
	}
	if g.v2 {
		level, full := 1, false
		g.up(func(a *group) {
			if !a.isTop() || a.texts["cgroup.max.depth"] != "" || a.texts["cgroup.max.descendants"] != "" {
				full = full || over(a.text("cgroup.max.descendants"), a.descendants()+1) || over(a.text("cgroup.max.depth"), level)
			}
			level++
		})
		if full {
			return syscall.EAGAIN
		}
	}
	c := g.m.newGroup(g.tree, g, name)
	c.born()
	return nil
}

func over(limit string, n int) bool {
	if limit == "max" {
		return false
	}
	most, err := strconv.Atoi(limit)
	return err == nil && n > most
}

// born gives a new group what it has from its parent.
func (g *group) born() {
	if g.v2 && g.parent.threaded {
		g.was.frozen = false
	}
	if g.tree.has.has(cpuset) && !g.v2 && g.parent.text("cgroup.clone_children") == "1" {
		g.setText("cpuset.cpus", g.parent.text("cpuset.cpus"))
		g.setText("cpuset.mems", g.parent.text("cpuset.mems"))
	}
	if !g.v2 {
		g.setText("cgroup.clone_children", g.parent.text("cgroup.clone_children"))
	}
	if g.tree.has.has(devices) && !g.v2 {
		g.setText("devices.list", g.parent.text("devices.list"))
	}
	g.was = g.state()
}

// rmdir removes the child name.
func (g *group) rmdir(name string) error {
	c := g.children[name]
	switch {
	case g.gone || c == nil:
		return syscall.ENOENT
	case len(c.children) > 0 || c.populated():
		return syscall.EBUSY
	}
	delete(g.children, name)
	c.gone = true
	for file := range c.told {
		c.announce(file)
	}
	g.m.wake()
	for f, ring := range g.m.heard {
		if f.g == c {
			ring()
		}
	}
	return nil
}

// populated reports whether a process is in g or below it.
func (g *group) populated() bool {
	if len(g.procs) > 0 {
		return true
	}
	for _, c := range g.children {
		if c.populated() {
			return true
		}
	}
	return false
}
