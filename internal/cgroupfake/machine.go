// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// Layout is how a machine's hierarchies are mounted.
type Layout uint8

// The layouts.
const (
	V2     Layout = iota + 1 // one cgroup2 tree with all controllers
	V1                       // each v1 controller in a tree of its own; a detached cgroup2 tree
	Hybrid                   // the same, with the cgroup2 tree mounted
)

// Release is a kernel release: 5.10 is {5, 10}.
type Release struct{ Major, Minor int }

func (r Release) before(major, minor int) bool {
	return r.Major < major || r.Major == major && r.Minor < minor
}

// Config is what a machine is like. Zero fields have defaults.
type Config struct {
	Layout      Layout
	Kernel      Release // 6.12
	CPUs, Mems  int     // 8, 1
	PageSize    uint64  // the test machine's
	Swap        uint64  // bytes of swap space: none
	Disks       []string
	HugePages   []uint64          // sizes: 2 MiB
	Misc        map[string]uint64 // capacities
	RDMA        []string          // devices
	Without     []string          // files and controllers that it lacks
	NoUnified   bool              // V1 without CAP_SYS_ADMIN: not even a detached cgroup2 tree
	CostEnabled bool              // io.cost is on for the disks
	Privileged  bool              // CAP_SYS_RESOURCE
}

// Machine is a fake machine. It is safe for concurrent use.
type Machine struct {
	mu      sync.Mutex
	cfg     Config
	trees   []*tree
	procs   map[int]*process
	lastPID int
	lastIno uint64
	swap    uint64        // in use
	changed chan struct{} // closed at the next announcement
	heard   map[*openFile]func()
	psi     *machinePressure
	program int // the last BPF program's id

	hook   func(Op) Outcome
	writes []Op
}

// tree is one hierarchy.
type tree struct {
	m        *Machine
	v2       bool
	detached bool
	has      ctls
	path     string
	top      *group
	kinds    map[string]*kind
	dev      uint64
}

// New makes a machine.
func New(cfg Config) *Machine {
	if cfg.Kernel == (Release{}) {
		cfg.Kernel = Release{6, 12}
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 8
	}
	if cfg.Mems == 0 {
		cfg.Mems = 1
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = uint64(os.Getpagesize())
	}
	if cfg.Disks == nil {
		cfg.Disks = []string{"8:0", "8:16"}
	}
	if cfg.HugePages == nil {
		cfg.HugePages = []uint64{2 << 20}
	}
	m := &Machine{
		cfg: cfg, procs: make(map[int]*process), lastPID: firstPID, lastIno: 1,
		changed: make(chan struct{}), heard: make(map[*openFile]func()),
	}
	m.psi = &machinePressure{m: m}
	if cfg.Layout == V2 {
		m.addTree(true, false, "/sys/fs/cgroup", ctlsV2)
		return m
	}
	for _, c := range ctlsV1.list() {
		if m.cfg.knows(c, c.nameV1()) {
			m.addTree(false, false, "/sys/fs/cgroup/"+c.nameV1(), ctlsOf(c))
		}
	}
	switch {
	case cfg.Layout == Hybrid:
		m.addTree(true, false, "/sys/fs/cgroup/unified", 0)
	case !cfg.NoUnified:
		m.addTree(true, true, "cgroup2:", 0)
	}
	return m
}

func (m *Machine) lacks(name string) bool { return slices.Contains(m.cfg.Without, name) }

func (m *Machine) addTree(v2, detached bool, path string, has ctls) {
	t := &tree{m: m, v2: v2, detached: detached, path: path, dev: uint64(0x20 + len(m.trees))}
	for _, c := range has.list() {
		if m.cfg.knows(c, c.name(v2)) {
			t.has |= ctlsOf(c)
		}
	}
	t.kinds = t.table()
	t.top = m.newGroup(t, nil, "")
	t.top.under = t.has
	m.trees = append(m.trees, t)
}

// Trees implements [kernfs.FakeMachine].
func (m *Machine) Trees() []kernfs.FakeTree {
	var all []kernfs.FakeTree
	for _, t := range m.trees {
		ft := kernfs.FakeTree{V2: t.v2, Detached: t.detached, Path: t.path, Top: &dir{t.top}}
		for _, c := range t.has.list() {
			ft.Controllers = append(ft.Controllers, c.name(t.v2))
		}
		all = append(all, ft)
	}
	return all
}

// HugePages implements [kernfs.FakeMachine].
func (m *Machine) HugePages() []uint64 { return m.cfg.HugePages }

// Config is what the machine was made of, with the defaults filled in.
func (m *Machine) Config() Config { return m.cfg }

// find is the group at path in the first tree that has it and that ok takes.
func (m *Machine) find(path string, ok func(*tree) bool) *group {
	for _, t := range m.trees {
		if ok(t) {
			if g := t.top.below(path); g != nil {
				return g
			}
		}
	}
	return nil
}

// everywhere calls f with the group at path in each tree.
func (m *Machine) everywhere(path string, f func(*group)) error {
	found := false
	for _, t := range m.trees {
		if g := t.top.below(path); g != nil {
			found = true
			f(g)
		}
	}
	if !found {
		return fmt.Errorf("cgroup %s: %w", path, syscall.ENOENT)
	}
	return nil
}

// under reports whether a tree has the controller.
func under(c ctl) func(*tree) bool { return func(t *tree) bool { return t.has.has(c) } }
