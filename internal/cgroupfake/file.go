// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"context"
	"syscall"
)

// kind is what the files of one name have in common.
type kind struct {
	name  string
	ctl   ctl
	where where
	init  string                            // what it holds in a new group
	initF func(g *group) string             // the same, where it depends
	show  func(g *group) (string, error)    // nil: what it holds
	store func(g *group, data string) error // nil: it cannot be written
	blind bool                              // it cannot be read
	blank bool                              // it shows an empty line when it holds nothing
	log   bool                              // hidden from [Machine.Tree]
}

// where says which groups have a file.
type where uint8

const (
	everywhere where = iota
	notTop
	onlyTop
)

func (k *kind) fresh(g *group) string {
	if k.initF != nil {
		return k.initF(g)
	}
	return k.init
}

// has reports whether g has the file.
func (g *group) has(file string) bool {
	k := g.kinds[file]
	switch {
	case k == nil, !g.under.has(k.ctl):
		return false
	case k.where == notTop && g.isTop(), k.where == onlyTop && !g.isTop():
		return false
	case isPressure(file) && g.texts["cgroup.pressure"] == "0":
		return false
	}
	return true
}

// read is the whole text of the file.
func (g *group) read(k *kind) (string, error) {
	switch {
	case g.gone || !g.has(k.name):
		return "", syscall.ENODEV
	case k.blind:
		return "", syscall.EINVAL
	case k.show != nil:
		text, err := k.show(g)
		if err != nil {
			return "", err
		}
		return ended(text), nil
	}
	text := g.text(k.name)
	if text == "" && k.blank {
		return "\n", nil
	}
	return ended(text), nil
}

func ended(text string) string {
	if text == "" || text[len(text)-1] == '\n' {
		return text
	}
	return text + "\n"
}

// write is what the kernel does with data.
func (g *group) write(k *kind, data string) error {
	switch {
	case g.gone || !g.has(k.name):
		return syscall.ENODEV
	case len(data) > 4096:
		return syscall.E2BIG
	case k.store == nil:
		return syscall.EINVAL
	}
	return k.store(g, data)
}

// openFile is an open file; it implements [kernfs.FakeFile].
type openFile struct {
	g    *group
	kind *kind
	life uint64 // of the file, as files may go and come back
	seen uint64 // announcements at the last read
}

// life counts how often the files of the kind have gone away in g.
func (g *group) life(k *kind) uint64 {
	if isPressure(k.name) {
		return g.lives[numCtls]
	}
	return g.lives[k.ctl]
}

// lives reports whether the file has been there since it was opened.
func (f *openFile) lives() bool { return f.g.life(f.kind) == f.life }

func (f *openFile) op(kind OpKind, data string) Op {
	return Op{Kind: kind, Group: f.g.path, File: f.kind.name, Data: data, V2: f.g.v2}
}

func (f *openFile) Text() (string, error) {
	m := f.g.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if out := m.ask(f.op(Read, "")); out.Err != nil {
		return "", out.Err
	}
	if !f.lives() {
		return "", syscall.ENODEV
	}
	text, err := f.g.read(f.kind)
	if err != nil {
		return "", err
	}
	f.seen = f.g.heardOf(f.kind.name)
	return text, nil
}

func (f *openFile) Write(data string) (int, error) {
	if data == "" {
		return 0, nil // no kernel hears of it
	}
	m := f.g.m
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.ask(f.op(Write, data))
	if out.Err != nil && !out.Effect {
		return 0, out.Err
	}
	if out.Short > 0 && out.Short < len(data) {
		data = data[:out.Short]
	}
	if !f.lives() {
		return 0, syscall.ENODEV
	}
	if err := f.g.write(f.kind, data); err != nil {
		return 0, err
	}
	if out.Err != nil {
		return 0, out.Err
	}
	return len(data), nil
}

func (f *openFile) Wait(ctx context.Context) error {
	m := f.g.m
	for {
		m.mu.Lock()
		ready := f.g.gone || f.g.heardOf(f.kind.name) != f.seen
		changed := m.changed
		m.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (f *openFile) Notify(fn func()) {
	f.g.m.mu.Lock()
	defer f.g.m.mu.Unlock()
	f.g.m.heard[f] = fn
}

func (f *openFile) Close() {
	f.g.m.mu.Lock()
	defer f.g.m.mu.Unlock()
	delete(f.g.m.heard, f)
}

// heardOf counts the announcements of a file; a file that was never read is
// behind.
func (g *group) heardOf(file string) uint64 { return g.told[file] + 1 }

// announce tells whoever waits for the file.
func (g *group) announce(file string) {
	if g.told == nil {
		g.told = make(map[string]uint64)
	}
	g.told[file]++
	for f, ring := range g.m.heard {
		if f.g == g && f.kind.name == file {
			ring()
		}
	}
	g.m.wake()
}

// wake lets whoever waits look again.
func (m *Machine) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}
