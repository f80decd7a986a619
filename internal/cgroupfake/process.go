// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// firstPID is above the most that a kernel gives (PID_MAX_LIMIT), so that no
// number of a fake is ever a real process's.
const firstPID = 1 << 22

// process is a simulated process of one thread.
type process struct {
	pid    int
	name   string
	in     map[*tree]*group
	stuck  bool // in a wait that no signal ends
	doomed bool // it dies when it can
}

// Start makes a process in the group at path, in each tree that has it; in the
// others it is in the top. It fails with EAGAIN above a pids.max.
func (m *Machine) Start(path, name string) (pid int, err error) { return m.start(path, name, true) }

// start goes by the kernel's rules or not.
func (m *Machine) start(path, name string, rules bool) (pid int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.find(path, under(pids)); g != nil && rules {
		if err := g.fork(); err != nil {
			return 0, err
		}
	}
	in := make(map[*tree]*group)
	err = m.everywhere(path, func(g *group) { in[g.tree] = g })
	if err != nil {
		return 0, err
	}
	for t, g := range in {
		switch {
		case !rules:
		case t.v2 && !g.validDomain():
			return 0, syscall.EOPNOTSUPP
		case t.v2 && g.internal():
			return 0, syscall.EBUSY
		case !t.v2 && t.has.has(cpuset) && g.unset():
			return 0, syscall.ENOSPC
		}
	}
	m.lastPID++
	p := &process{pid: m.lastPID, name: name, in: in}
	m.procs[p.pid] = p
	for _, t := range m.trees {
		g := in[t]
		if g == nil {
			g = t.top
			in[t] = g
		}
		g.procs = append(g.procs, p.pid)
		g.settle()
	}
	return p.pid, nil
}

// internal reports whether the no-internal-process rule forbids processes.
func (g *group) internal() bool {
	return !g.canBeThreadRoot() && !g.threaded && g.subtree != 0
}

// Exit ends a process of its own accord.
func (m *Machine) Exit(pid int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.procs[pid] == nil {
		return syscall.ESRCH
	}
	m.reap(pid)
	return nil
}

// Stick puts a process into a wait that no signal ends, or ends the wait.
func (m *Machine) Stick(pid int, stuck bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.procs[pid]
	if p == nil {
		return syscall.ESRCH
	}
	p.stuck = stuck
	if p.doomed && !stuck {
		m.end(pid)
		return nil
	}
	for _, g := range p.in {
		g.settle()
	}
	return nil
}

// Kill implements [kernfs.FakeMachine].
func (m *Machine) Kill(pid int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.procs[pid] == nil {
		return syscall.ESRCH
	}
	m.end(pid)
	return nil
}

// Process implements [kernfs.FakeMachine].
func (m *Machine) Process(pid int) (name, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.procs[pid]
	switch {
	case p == nil:
		return "", ""
	case p.stuck:
		return p.name, "D"
	}
	return p.name, "S"
}

// end kills a process, if not now, then when its wait or v1's freezer ends.
func (m *Machine) end(pid int) {
	p := m.procs[pid]
	p.doomed = true
	if !p.stuck && !p.frozenV1() {
		m.reap(pid)
	}
}

func (m *Machine) reap(pid int) {
	p := m.procs[pid]
	delete(m.procs, pid)
	for _, t := range m.trees {
		g := p.in[t]
		if t.has.has(memory) {
			g.work.free(len(g.procs))
		}
		g.procs = slices.DeleteFunc(g.procs, func(n int) bool { return n == pid })
		g.settle()
	}
}

// stuck reports whether a process in g or below it cannot be frozen.
func (g *group) stuck() bool {
	for _, pid := range g.procs {
		if g.m.procs[pid].stuck {
			return true
		}
	}
	for _, c := range g.children {
		if c.stuck() {
			return true
		}
	}
	return false
}

// Memberships implements [kernfs.FakeMachine].
func (m *Machine) Memberships(pid string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var p *process
	if pid != "self" {
		n, err := strconv.Atoi(pid)
		if p = m.procs[n]; err != nil || p == nil && n != os.Getpid() {
			return "", syscall.ESRCH
		}
	}
	var b strings.Builder
	for i, t := range m.trees {
		path := "/"
		if p != nil {
			path += p.in[t].path
		}
		if t.v2 {
			fmt.Fprintf(&b, "0::%s\n", path)
			continue
		}
		var names []string
		for _, c := range t.has.list() {
			names = append(names, c.nameV1())
		}
		fmt.Fprintf(&b, "%d:%s:%s\n", i+1, strings.Join(names, ","), path)
	}
	return b.String(), nil
}

func pidLines(pids []int) string {
	var b []byte
	for _, pid := range pids {
		b = strconv.AppendInt(b, int64(pid), 10)
		b = append(b, '\n')
	}
	return string(b)
}

func showProcs(g *group) (string, error) {
	if g.threaded {
		return "", syscall.EOPNOTSUPP
	}
	return pidLines(g.procs), nil
}

func showThreads(g *group) (string, error) { return pidLines(g.procs), nil }

func storeProcs(g *group, data string) error {
	n, err := parseInt(strip(data), 32)
	if err != nil || n < 0 {
		return syscall.EINVAL
	}
	if n == 0 {
		return nil // the caller, who is in no group of a fake but the top
	}
	p := g.m.procs[int(n)]
	if p == nil {
		return syscall.ESRCH
	}
	return g.attach(p)
}

func storeThreads(g *group, data string) error {
	n, err := parseInt(strip(data), 32)
	if err != nil || n < 0 {
		return syscall.EINVAL
	}
	p := g.m.procs[int(n)]
	switch {
	case p == nil:
		return syscall.ESRCH
	case !g.threaded && p.in[g.tree] != g:
		return syscall.EOPNOTSUPP
	}
	return g.attach(p)
}

// attach moves a process into g.
func (g *group) attach(p *process) error {
	from := p.in[g.tree]
	switch {
	case from == g:
		return nil
	case g.v2 && !g.validDomain():
		return syscall.EOPNOTSUPP
	case g.v2 && g.internal():
		return syscall.EBUSY
	case !g.v2 && g.tree.has.has(cpuset) && g.unset():
		return syscall.ENOSPC
	}
	from.procs = slices.DeleteFunc(from.procs, func(n int) bool { return n == p.pid })
	g.procs = append(g.procs, p.pid)
	slices.Sort(g.procs)
	p.in[g.tree] = g
	from.settle()
	g.settle()
	return nil
}
