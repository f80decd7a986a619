// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// holder is the group that has the file, in the first tree that has it.
func (m *Machine) holder(path, file string) (*group, error) {
	for _, t := range m.trees {
		if g := t.top.below(path); g != nil && g.has(file) {
			return g, nil
		}
	}
	return nil, fmt.Errorf("open %s/%s: %w", path, file, syscall.ENOENT)
}

// Read is what a file of the group at path holds. No hook is asked.
func (m *Machine) Read(path, file string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, err := m.holder(path, file)
	if err != nil {
		return "", err
	}
	return g.read(g.kinds[file])
}

// Write writes to a file of the group at path, as a stranger would: by the
// kernel's rules, without a hook, and unrecorded.
func (m *Machine) Write(path, file, data string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, err := m.holder(path, file)
	if err != nil {
		return err
	}
	return g.write(g.kinds[file], data)
}

// Mkdir makes the group at path in every tree, as a stranger would.
func (m *Machine) Mkdir(path string) error {
	return m.inParents(path, func(g *group, name string) error { return g.mkdir(name) })
}

// Rmdir removes the group at path from every tree, as a stranger would.
func (m *Machine) Rmdir(path string) error {
	found := false
	err := m.inParents(path, func(g *group, name string) error {
		if g.children[name] == nil {
			return nil
		}
		found = true
		return g.rmdir(name)
	})
	if err == nil && !found {
		err = fmt.Errorf("cgroup %s: %w", path, syscall.ENOENT)
	}
	return err
}

func (m *Machine) inParents(path string, f func(g *group, name string) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.trees {
		g, name, err := (&dir{t.top}).split(path)
		if err == nil {
			err = f(g, name)
		}
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", path, err)
		}
	}
	return nil
}

// saved is what a group was like.
type saved struct {
	texts    map[string]string
	subtree  ctls
	under    ctls
	threaded bool
	procs    []int
	work     work
}

// Save notes what all groups are like and returns what brings that back. Groups
// made since are removed; those removed since stay so.
func (m *Machine) Save() (restore func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := make(map[*group]saved)
	for _, t := range m.trees {
		t.top.each(func(g *group) {
			was[g] = saved{maps.Clone(g.texts), g.subtree, g.under, g.threaded, slices.Clone(g.procs), g.work}
		})
	}
	procs, swap := make(map[int]process, len(m.procs)), m.swap
	for pid, p := range m.procs {
		procs[pid] = process{p.pid, p.name, maps.Clone(p.in), p.stuck, p.doomed}
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, t := range m.trees {
			t.top.each(func(g *group) {
				s, ok := was[g]
				if !ok {
					g.gone = true
					delete(g.parent.children, g.name)
					return
				}
				g.texts, g.procs = maps.Clone(s.texts), slices.Clone(s.procs)
				g.subtree, g.under, g.threaded, g.work = s.subtree, s.under, s.threaded, s.work
			})
		}
		m.swap = swap
		clear(m.procs)
		for pid, p := range procs {
			p.in = maps.Clone(p.in)
			m.procs[pid] = &p
		}
		for _, t := range m.trees {
			t.top.each(func(g *group) { g.was = g.state() })
		}
	}
}

// Open opens a file of the group at path.
func (m *Machine) Open(path, file string) (kernfs.FakeFile, error) {
	m.mu.Lock()
	g, err := m.holder(path, file)
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return (&dir{g}).Open(file, os.O_RDWR)
}
