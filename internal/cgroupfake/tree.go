// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tree is the machine's groups as text: each with what its files hold that is
// not what a new group's do, its processes, and what is in use. Groups of one
// path in several hierarchies are one.
//
//	agent
//		cgroup.subtree_control: cpu memory
//	agent/web
//		cpu.max: 50000 100000
//		usage: anon 1048576, file 4096
//		processes: 4194305 4194306
//
// Several lines of a file have " | " between them, and are sorted: their order
// says nothing.
func (m *Machine) Tree() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := make(map[string][]*group)
	var paths []string
	for _, t := range m.trees {
		t.top.each(func(g *group) {
			if len(at[g.path]) == 0 {
				paths = append(paths, g.path)
			}
			at[g.path] = append(at[g.path], g)
		})
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, path := range paths {
		lines := m.describe(at[path])
		if path == "" && len(lines) == 0 {
			continue
		}
		name := path
		if path == "" {
			name = "/"
		}
		b.WriteString(name)
		if missing := m.without(at[path]); missing != "" {
			b.WriteString(" (not in " + missing + ")")
		}
		b.WriteByte('\n')
		for _, l := range lines {
			b.WriteString("\t" + l + "\n")
		}
	}
	return b.String()
}

// without names the hierarchies that the groups are not in.
func (m *Machine) without(groups []*group) string {
	var names []string
	for _, t := range m.trees {
		if !slices.ContainsFunc(groups, func(g *group) bool { return g.tree == t }) {
			names = append(names, t.name())
		}
	}
	return strings.Join(names, ", ")
}

// name is how a tree literal calls the hierarchy.
func (t *tree) name() string {
	if t.v2 {
		return "unified"
	}
	return t.has.list()[0].nameV1()
}

func (m *Machine) describe(groups []*group) []string {
	var lines []string
	var usage work
	var procs []int
	for _, g := range groups {
		for file, text := range g.texts {
			if strings.Contains(text, "\n") {
				several := strings.Split(text, "\n")
				slices.Sort(several)
				text = strings.Join(several, " | ")
			}
			lines = append(lines, file+": "+text)
		}
		if g.subtree != 0 {
			lines = append(lines, "cgroup.subtree_control: "+g.subtree.text())
		}
		if g.threaded {
			lines = append(lines, "cgroup.type: threaded")
		}
		if g.tree.has.has(memory) {
			usage = g.work
		}
		for _, pid := range g.procs {
			if !slices.Contains(procs, pid) {
				procs = append(procs, pid)
			}
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	var used []string
	for _, u := range usage.amounts() {
		if *u.n != 0 {
			used = append(used, fmt.Sprintf("%s %d", u.name, *u.n))
		}
	}
	if len(used) > 0 {
		lines = append(lines, "usage: "+strings.Join(used, ", "))
	}
	if len(procs) > 0 && groups[0].path != "" {
		slices.Sort(procs)
		words := make([]string, len(procs))
		for i, pid := range procs {
			words[i] = strconv.Itoa(pid)
		}
		lines = append(lines, "processes: "+strings.Join(words, " "))
	}
	return lines
}

type amount struct {
	name string
	n    *uint64
}

func (u *Usage) amounts() []amount {
	return []amount{{"anon", &u.Anon}, {"file", &u.File}, {"kernel", &u.Kernel}, {"swap", &u.Swap}, {"huge", &u.Huge}}
}

// Load makes the groups of a tree literal, as [Machine.Tree] writes it, and puts
// into their files what it says, without asking the kernel's rules. "processes:"
// is followed by how many there are, or their numbers, which become new ones.
func (m *Machine) Load(literal string) error {
	path := ""
	for l := range strings.Lines(literal) {
		text := strings.TrimRight(l, "\n")
		trimmed := strings.TrimSpace(text)
		var err error
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
			continue
		case text[0] != '\t' && text[0] != ' ':
			path, err = m.loadGroup(trimmed)
		default:
			err = m.loadLine(path, trimmed)
		}
		if err != nil {
			return fmt.Errorf("tree literal: line %q: %w", trimmed, err)
		}
	}
	return nil
}

func (m *Machine) loadGroup(text string) (path string, err error) {
	path, missing, _ := strings.Cut(text, " (not in ")
	if path == "/" {
		return "", nil
	}
	missing = strings.TrimSuffix(missing, ")")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.trees {
		if slices.Contains(strings.Split(missing, ", "), t.name()) {
			continue
		}
		g := t.top
		for name := range strings.SplitSeq(path, "/") {
			if name == "" || name == "." || name == ".." || name != strings.TrimSpace(name) || strings.ContainsAny(name, "()#") {
				return "", fmt.Errorf("not a path")
			}
			c := g.children[name]
			if c == nil {
				if err := g.mkdir(name); err != nil {
					return "", err
				}
				c = g.children[name]
			}
			g = c
		}
	}
	return path, nil
}

func (m *Machine) loadLine(path, text string) error {
	file, value, ok := strings.Cut(text, ":")
	value = strings.TrimSpace(value)
	if !ok {
		return fmt.Errorf("neither a group nor FILE: TEXT")
	}
	switch file {
	case "processes":
		words := strings.Fields(value)
		n := len(words)
		if n == 1 {
			if count, err := strconv.Atoi(words[0]); err == nil && count < firstPID {
				n = count
			}
		}
		for range n {
			if _, err := m.start(path, "work", false); err != nil {
				return err
			}
		}
		return nil
	case "usage":
		return m.loadUsage(path, value)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.trees {
		g, k := t.top.below(path), t.kinds[file]
		if g == nil || k == nil || k.where == notTop && g.isTop() || k.where == onlyTop && !g.isTop() {
			continue
		}
		switch file {
		case "cgroup.subtree_control":
			for name := range strings.FieldsSeq(value) {
				if c, ok := ctlNamed(name); ok {
					g.subtree |= ctlsOf(c) & t.has
				}
			}
			for _, c := range g.children {
				c.under = g.subtree
			}
		case "cgroup.type":
			g.threaded = value == "threaded"
		default:
			if k.log || k.store == nil && file != deviceList {
				return fmt.Errorf("the file only tells")
			}
			g.enable(k.ctl)
			var lines []string
			for l := range strings.SplitSeq(value, " | ") {
				if l = strings.TrimSpace(l); l != "" {
					lines = append(lines, l)
				}
			}
			g.setText(file, strings.Join(lines, "\n"))
		}
		return nil
	}
	return fmt.Errorf("no such file")
}

// enable puts g under a controller of v2, whatever the rules say.
func (g *group) enable(c ctl) {
	for a := g.parent; g.v2 && c != core && a != nil; a = a.parent {
		a.subtree |= ctlsOf(c)
		for _, b := range a.children {
			b.under = a.subtree
		}
	}
}

func (m *Machine) loadUsage(path, text string) error {
	var u Usage
	all := u.amounts()
	for part := range strings.SplitSeq(text, ", ") {
		name, value, _ := strings.Cut(part, " ")
		n, rest := parseMem(value)
		i := slices.IndexFunc(all, func(a amount) bool { return a.name == name })
		if i < 0 || rest != "" {
			return fmt.Errorf("usage %q is not like \"anon 4096\"", part)
		}
		*all[i].n = n
	}
	return m.SetUsage(path, u)
}
