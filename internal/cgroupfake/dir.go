// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"maps"
	"os"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// dir is a held directory; it implements [kernfs.FakeDir].
type dir struct{ g *group }

func (d *dir) ID() kernfs.ID { return kernfs.ID{Dev: d.g.dev, Ino: d.g.ino} }

func (d *dir) Version() int {
	if d.g.v2 {
		return 2
	}
	return 1
}

func (d *dir) Gone() bool {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	return d.g.gone
}

// split is the group that holds the last element of name, and the element.
func (d *dir) split(name string) (*group, string, error) {
	g := d.g
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		if g = g.below(name[:i]); g == nil {
			return nil, "", syscall.ENOENT
		}
		name = name[i+1:]
	}
	if g.gone {
		return nil, "", syscall.ENOENT
	}
	return g, name, nil
}

// do finds the place of name and runs f there, after the hook.
func (d *dir) do(kind OpKind, name string, f func(g *group, name string) error) error {
	m := d.g.m
	m.mu.Lock()
	g, last, err := d.split(name)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	out := m.ask(Op{Kind: kind, Group: g.path, File: last, V2: g.v2})
	defer m.mu.Unlock()
	if out.Err != nil && !out.Effect {
		return out.Err
	}
	if g.gone {
		return syscall.ENOENT
	}
	if err := f(g, last); err != nil {
		return err
	}
	return out.Err
}

func (d *dir) Mkdir(name string) error {
	return d.do(Mkdir, name, func(g *group, name string) error { return g.mkdir(name) })
}

func (d *dir) Rmdir(name string) error {
	return d.do(Rmdir, name, func(g *group, name string) error { return g.rmdir(name) })
}

func (d *dir) OpenDir(name string) (kernfs.FakeDir, error) {
	var found *dir
	err := d.do(Open, name, func(g *group, name string) error {
		switch c := g.children[name]; {
		case c != nil:
			found = &dir{c}
			return nil
		case g.has(name):
			return syscall.ENOTDIR
		}
		return syscall.ENOENT
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (d *dir) Open(name string, flag int) (kernfs.FakeFile, error) {
	var file *openFile
	err := d.do(Open, name, func(g *group, name string) error {
		switch {
		case g.children[name] != nil && flag&(os.O_WRONLY|os.O_RDWR) != 0:
			return syscall.EISDIR
		case !g.has(name):
			return syscall.ENOENT
		}
		k := g.kinds[name]
		file = &openFile{g: g, kind: k, life: g.life(k)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (d *dir) Has(name string) (bool, error) {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	g, last, err := d.split(name)
	if err != nil {
		return false, nil //nolint:nilerr // no directory, no file
	}
	return g.children[last] != nil || g.has(last), nil
}

func (d *dir) Dirs() []string {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	var names []string
	for _, c := range d.g.sorted() {
		names = append(names, c.name)
	}
	return names
}

func (d *dir) SetXattr(name, value string) error {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	if d.g.xattrs == nil {
		d.g.xattrs = make(map[string]string)
	}
	d.g.xattrs[name] = value
	return nil
}

func (d *dir) RemoveXattr(name string) error {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	if _, ok := d.g.xattrs[name]; !ok {
		return syscall.ENODATA
	}
	delete(d.g.xattrs, name)
	return nil
}

func (d *dir) Xattrs() map[string]string {
	d.g.m.mu.Lock()
	defer d.g.m.mu.Unlock()
	return maps.Clone(d.g.xattrs)
}
