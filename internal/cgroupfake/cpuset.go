// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// set is a bit for each CPU or memory node.
type set []uint64

func (s set) has(n int) bool { return n/64 < len(s) && s[n/64]>>(n%64)&1 != 0 }

func (s set) empty() bool { return !slices.ContainsFunc(s, func(w uint64) bool { return w != 0 }) }

// in reports whether all of s is in t.
func (s set) in(t set) bool {
	for i, w := range s {
		if w&^t[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) and(t set) set {
	u := slices.Clone(s)
	for i := range u {
		u[i] &= t[i]
	}
	return u
}

func all(n int) set {
	s := make(set, (n+63)/64)
	for i := range n {
		s[i/64] |= 1 << (i % 64)
	}
	return s
}

// parseList is bitmap_parselist for n bits.
func parseList(text string, n int) (set, error) {
	s := make(set, (n+63)/64)
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		lo, hi, ranged := strings.Cut(part, "-")
		if !ranged {
			hi = lo
		}
		first, err1 := strconv.ParseUint(lo, 10, 32)
		last, err2 := strconv.ParseUint(hi, 10, 32)
		switch {
		case err1 != nil, err2 != nil, first > last:
			return nil, syscall.EINVAL
		case last >= uint64(n):
			return nil, syscall.ERANGE
		}
		for i := first; i <= last; i++ {
			s[i/64] |= 1 << (i % 64)
		}
	}
	return s, nil
}

func (s set) String() string {
	var b []byte
	for i := 0; i < 64*len(s); i++ {
		if !s.has(i) {
			continue
		}
		last := i
		for s.has(last + 1) {
			last++
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(i), 10)
		if last > i {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(last), 10)
		}
		i = last
	}
	return string(b)
}

const partition = "cpuset.cpus.partition"

// cpusetKinds are the files of cpuset (kernel/cgroup/cpuset.c, cpuset-v1.c).
func (t *tree) cpusetKinds() []kind {
	if !t.v2 {
		inTop := func(n func(m *Machine) int) func(*group) string {
			return func(g *group) string {
				if g.isTop() {
					return all(n(g.m)).String()
				}
				return ""
			}
		}
		kinds := []kind{
			{name: "cpuset.cpus", ctl: cpuset, blank: true, initF: inTop(cpus), store: storeSet("cpuset.cpus", cpus)},
			{name: "cpuset.mems", ctl: cpuset, blank: true, initF: inTop(mems), store: storeSet("cpuset.mems", mems)},
			shows("cpuset.effective_cpus", cpuset, everywhere, func(g *group) string { return blankLine(g.effective("cpuset.cpus", cpus).String()) }),
			shows("cpuset.effective_mems", cpuset, everywhere, func(g *group) string { return blankLine(g.effective("cpuset.mems", mems).String()) }),
		}
		for _, name := range []string{"cpuset.cpu_exclusive", "cpuset.mem_exclusive"} {
			kinds = append(kinds, kind{name: name, ctl: cpuset, initF: func(g *group) string {
				if g.isTop() {
					return "1"
				}
				return "0"
			}, store: storeExclusive(name)})
		}
		return kinds
	}
	kinds := []kind{
		{name: "cpuset.cpus", ctl: cpuset, where: notTop, blank: true, store: storeSet("cpuset.cpus", cpus)},
		{name: "cpuset.mems", ctl: cpuset, where: notTop, blank: true, store: storeSet("cpuset.mems", mems)},
		shows("cpuset.cpus.effective", cpuset, everywhere, func(g *group) string { return blankLine(g.effective("cpuset.cpus", cpus).String()) }),
		shows("cpuset.mems.effective", cpuset, everywhere, func(g *group) string { return blankLine(g.effective("cpuset.mems", mems).String()) }),
	}
	return append(kinds, t.since(5, 0, kind{name: partition, ctl: cpuset, where: notTop, init: "member", store: storePartition})...)
}

func cpus(m *Machine) int { return m.cfg.CPUs }
func mems(m *Machine) int { return m.cfg.Mems }

// list is a set that a file holds, or that it inherits.
func (g *group) list(file string, n func(*Machine) int) set {
	s, err := parseList(g.text(file), n(g.m))
	if err != nil {
		return make(set, (n(g.m)+63)/64)
	}
	return s
}

// effective is the set that holds: on v2 the parent's where the own is empty or
// has nothing of it.
func (g *group) effective(file string, n func(*Machine) int) set {
	if g.isTop() {
		return all(n(g.m))
	}
	above := g.parent.effective(file, n)
	own := g.list(file, n).and(above)
	if own.empty() && g.v2 {
		return above
	}
	return own
}

// unset reports whether a v1 group has no CPUs or no memory nodes yet, so that
// nothing can run there.
func (g *group) unset() bool { return g.text("cpuset.cpus") == "" || g.text("cpuset.mems") == "" }

// storeSet is the kernel's validate_change for one of the lists.
func storeSet(file string, n func(*Machine) int) func(*group, string) error {
	return func(g *group, data string) error {
		if g.isTop() {
			return syscall.EACCES
		}
		s, err := parseList(strip(data), n(g.m))
		if err != nil {
			return err
		}
		// Until Linux 6.1 v2 had this rule too.
		if !g.v2 || g.m.cfg.Kernel.before(6, 1) {
			for _, c := range g.children {
				if g.under.has(cpuset) && !c.list(file, n).in(s) {
					return syscall.EBUSY
				}
			}
		}
		switch {
		case s.empty() && g.populated() && g.text(file) != "":
			return syscall.ENOSPC
		case g.v2:
		case !s.in(g.parent.list(file, n)):
			return syscall.EACCES
		case g.overlaps(file, s, n):
			return syscall.EINVAL
		}
		g.setText(file, s.String())
		if g.v2 && file == "cpuset.cpus" {
			g.checkPartition()
		}
		return nil
	}
}

// overlaps reports whether a sibling shares what one of them has alone.
func (g *group) overlaps(file string, s set, n func(*Machine) int) bool {
	flag := "cpuset.cpu_exclusive"
	if file == "cpuset.mems" {
		flag = "cpuset.mem_exclusive"
	}
	for _, c := range g.parent.children {
		if c != g && (c.text(flag) == "1" || g.text(flag) == "1") && !c.list(file, n).and(s).empty() {
			return true
		}
	}
	return false
}

func storeExclusive(name string) func(*group, string) error {
	return func(g *group, data string) error {
		n, err := parseUint(data)
		switch {
		case err != nil:
			return err
		case g.isTop():
			return syscall.EACCES
		case n != 0 && g.parent.text(name) != "1":
			return syscall.EACCES
		}
		if n == 0 {
			for _, c := range g.children {
				if c.text(name) == "1" {
					return syscall.EBUSY
				}
			}
			g.setText(name, "0")
			return nil
		}
		file, count := "cpuset.cpus", cpus
		if name == "cpuset.mem_exclusive" {
			file, count = "cpuset.mems", mems
		}
		was := g.text(name)
		g.setText(name, "1")
		if g.overlaps(file, g.list(file, count), count) {
			g.setText(name, was)
			return syscall.EINVAL
		}
		return nil
	}
}

// storePartition keeps what was asked for, marked invalid where the kernel
// cannot give it.
func storePartition(g *group, data string) error {
	data = strip(data)
	switch data {
	case "member", "root":
	case "isolated":
		if g.m.cfg.Kernel.before(6, 1) {
			return syscall.EINVAL
		}
	default:
		return syscall.EINVAL
	}
	g.setText(partition, data)
	g.checkPartition()
	return nil
}

// checkPartition says whether the group can be the partition that it is to be.
func (g *group) checkPartition() {
	word, _, _ := strings.Cut(g.text(partition), " ")
	if word == "member" {
		return
	}
	reason := ""
	switch own := g.list("cpuset.cpus", cpus); {
	case own.empty():
		reason = "cpus unavailable"
		if !g.m.cfg.Kernel.before(6, 7) {
			reason = "cpuset.cpus and cpuset.cpus.exclusive are empty"
		}
	case own.and(g.parent.effective("cpuset.cpus", cpus)).empty():
		reason = "Requested CPUs not in parent"
	}
	if reason != "" {
		word += " invalid (" + reason + ")"
	}
	g.setText(partition, word)
}
