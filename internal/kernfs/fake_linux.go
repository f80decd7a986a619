// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"context"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Fake is a Dir over a directory that no kernel has; errors call it path. Its
// descriptor is -1.
func Fake(dir FakeDir, path string) *Dir {
	return &Dir{handle: handle{fd: -1}, path: path, fake: dir}
}

// asFake runs call unless name is bad or d closed. An empty name is none.
func (d *Dir) asFake(op, name string, call func(FakeDir) error) error {
	path := d.path
	var err error
	if name != "" {
		path, err = d.Join(name), checkName(name)
	}
	if err == nil {
		if _, err = d.handle.enter(); err == nil {
			err = call(d.fake)
			d.handle.leave()
		}
	}
	if err != nil {
		return &FileError{Op: op, Path: path, Err: err}
	}
	return nil
}

func (d *Dir) fakeID() (id ID, err error) {
	return id, d.asFake("stat", "", func(f FakeDir) error { id = f.ID(); return nil })
}

func (d *Dir) fakeOpen(name string, flag int) (*File, error) {
	// An empty name is for checkName to refuse.
	if err := checkName(name); err != nil {
		return nil, &FileError{Op: "open", Path: d.Join(name), Err: err}
	}
	var file FakeFile
	err := d.asFake("open", name, func(f FakeDir) (err error) { file, err = f.Open(name, flag); return err })
	if err != nil {
		return nil, err
	}
	return &File{handle: handle{fd: -1, fake: file}, dir: d.path, name: name}, nil
}

func (d *Dir) fakeOpenDir(name string) (*Dir, error) {
	if err := checkName(name); err != nil {
		return nil, &FileError{Op: "open", Path: d.Join(name), Err: err}
	}
	var dir FakeDir
	err := d.asFake("open", name, func(f FakeDir) (err error) { dir, err = f.OpenDir(name); return err })
	if err != nil {
		return nil, err
	}
	return Fake(dir, d.Join(name)), nil
}

func (d *Dir) fakeMkdir(name string) error {
	return d.asFake("mkdir", name, func(f FakeDir) error { return f.Mkdir(name) })
}

// fakeRmdir is the second half of Rmdir: held lives.
func (d *Dir) fakeRmdir(name string) error {
	return d.asFake("rmdir", name, func(f FakeDir) error { return f.Rmdir(name) })
}

func (d *Dir) fakeGone() (gone bool, err error) {
	if _, err := d.handle.enter(); err != nil {
		return false, err
	}
	defer d.handle.leave()
	return d.fake.Gone(), nil
}

func (d *Dir) fakeDirs() (names []string, err error) {
	return names, d.asFake("read", "", func(f FakeDir) error {
		if f.Gone() {
			return unix.ENOENT
		}
		names = f.Dirs()
		return nil
	})
}

func (d *Dir) fakeSubdirs() (n int, err error) {
	return n, d.asFake("stat", "", func(f FakeDir) error { n = len(f.Dirs()); return nil })
}

func (d *Dir) fakeHas(name string) (has bool, err error) {
	if err := checkName(name); err != nil {
		return false, &FileError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return has, d.asFake("stat", name, func(f FakeDir) (err error) { has, err = f.Has(name); return err })
}

func (d *Dir) fakeWriteFile(name, data string) error {
	f, err := d.fakeOpen(name, unix.O_WRONLY)
	if err != nil {
		return &FileError{Op: "write", Path: d.Join(name), Data: data, Err: cause(err)}
	}
	defer f.Close()
	return f.Write(data)
}

// fakeStartWrite begins a write that cannot be interrupted.
func (d *Dir) fakeStartWrite(name, data string) (*SlowWrite, error) {
	f, err := d.fakeOpen(name, unix.O_WRONLY)
	if err != nil {
		return nil, &FileError{Op: "write", Path: d.Join(name), Data: data, Err: cause(err)}
	}
	w := &SlowWrite{path: d.Join(name), data: data, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer f.Close()
		w.err = f.Write(data)
	}()
	return w, nil
}

// cause is what a FileError wraps.
func cause(err error) error {
	if fe, ok := err.(*FileError); ok { //nolint:errorlint // it was made a moment ago
		return fe.Err
	}
	return err
}

func (d *Dir) fakeXattrs(prefix string) (map[string]string, error) {
	all := map[string]string{}
	err := d.asFake("listxattr", "", func(f FakeDir) error {
		for name, value := range f.Xattrs() {
			if short, ok := strings.CutPrefix(name, prefix); ok && short != "" {
				all[short] = value
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (d *Dir) fakeCgroup() (version int, err error) {
	return version, d.asFake("statfs", "", func(f FakeDir) error { version = f.Version(); return nil })
}

func (f *File) fakeRead(buf []byte, at int) (n int, err error) {
	if _, err = f.handle.enter(); err == nil {
		var text string
		if text, err = f.handle.fake.Text(); err == nil && at < len(text) {
			n = copy(buf, text[at:])
		}
		f.handle.leave()
	}
	if err != nil {
		return 0, &FileError{Op: "read", Path: f.Path(), Err: err}
	}
	return n, nil
}

func (f *File) fakeWrite(data string) error {
	_, err := f.handle.enter()
	if err == nil {
		var n int
		if n, err = f.handle.fake.Write(data); err == nil && n != len(data) {
			err = io.ErrShortWrite
		}
		f.handle.leave()
	}
	if err != nil {
		return &FileError{Op: "write", Path: f.Path(), Data: data, Err: err}
	}
	return nil
}

func (f *File) fakeWait(ctx context.Context) error {
	if _, err := f.handle.enter(); err != nil {
		return &FileError{Op: "poll", Path: f.Path(), Err: err}
	}
	defer f.handle.leave()
	return f.handle.fake.Wait(ctx)
}

// NotifyFake makes fn run at each announcement of a file that no kernel has, and
// reports whether the file is one: others are polled.
func (f *File) NotifyFake(fn func()) bool {
	if f.handle.fake == nil {
		return false
	}
	f.handle.fake.Notify(fn)
	return true
}

// IsFake reports whether the directory is one that no kernel has.
func (d *Dir) IsFake() bool { return d.fake != nil }
