// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ID identifies a directory for as long as the machine runs: the inode number
// of a cgroup directory is its cgroup id and is not used twice in a boot.
type ID struct {
	Dev, Ino uint64
}

// Dir is a held directory.
type Dir struct {
	handle handle
	path   string
	fake   FakeDir // nil for the kernel's
}

const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// OpenDir holds the directory at path, following links in path: a root is
// named by its owner and trusted.
func OpenDir(path string) (*Dir, error) {
	fd, err := retryFD(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &FileError{Op: "open", Path: path, Err: err}
	}
	return newDir(fd, path), nil
}

// newDir takes ownership of fd, an open directory; path is what errors call it.
func newDir(fd int, path string) *Dir { return &Dir{handle: handle{fd: int32(fd)}, path: path} }

// Path is the name the directory was opened under.
func (d *Dir) Path() string { return d.path }

// ID identifies the directory.
func (d *Dir) ID() (ID, error) {
	if d.fake != nil {
		return d.fakeID()
	}
	st, err := d.stat()
	return ID{Dev: st.Dev, Ino: st.Ino}, err
}

func (d *Dir) stat() (st unix.Stat_t, err error) {
	dir, err := d.handle.enter()
	if err == nil {
		err = retry(func() error { return unix.Fstat(dir, &st) })
		d.handle.leave()
	}
	if err != nil {
		err = &FileError{Op: "stat", Path: d.path, Err: err}
	}
	return st, err
}

// FD is the descriptor's number, valid until Close; -1 afterwards.
func (d *Dir) FD() int { return d.handle.number() }

// Close frees the descriptor once the calls that run on it have ended. Closing
// twice is nil.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	return d.handle.close()
}

// Join is the path of name below d, for messages.
func (d *Dir) Join(name string) string { return strings.TrimSuffix(d.path, "/") + "/" + name }

// checkName accepts a relative path without ".", "..", empty elements or NUL.
// Other bytes are the kernel's affair: a workload may give its groups names
// that are not UTF-8, and they have to be found and removed all the same.
func checkName(name string) error {
	bad := strings.IndexByte(name, 0) >= 0
	for element := range strings.SplitSeq(name, "/") {
		bad = bad || element == "" || element == "." || element == ".."
	}
	if bad {
		return fmt.Errorf("name %q: %w", name, unix.EINVAL)
	}
	return nil
}

func (d *Dir) openat(name string, flags int) (int, error) {
	if err := checkName(name); err != nil {
		return -1, err
	}
	dir, err := d.handle.enter()
	if err != nil {
		return -1, err
	}
	defer d.handle.leave()
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: beneath}
	return retryFD(func() (int, error) { return unix.Openat2(dir, name, &how) })
}

// OpenDir holds the directory name below d.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	if d.fake != nil {
		return d.fakeOpenDir(name)
	}
	fd, err := d.openat(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &FileError{Op: "open", Path: d.Join(name), Err: err}
	}
	return newDir(fd, d.Join(name)), nil
}

// Mkdir makes the directory name below d. Its parents must exist.
//
// This and Rmdir resolve name in the call itself, which saves opening the
// parent, a tenth of the cost of a group; they are for cgroupfs, which has no
// links that could lead out of d.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	if d.fake != nil {
		return d.fakeMkdir(name)
	}
	return d.at("mkdir", name, func(dir int) error { return unix.Mkdirat(dir, name, uint32(perm.Perm())) })
}

// Rmdir removes the empty directory name below d, which held was opened as. If
// that one was removed meanwhile, the answer is ENOENT and whatever has the name
// now is left alone. (A directory that lives has its name: cgroup v2 cannot
// rename, and on v1 only its host's root can.) Nothing here removes anything
// else, but for Unmake.
func (d *Dir) Rmdir(name string, held *Dir) error {
	gone, err := held.Gone()
	if err == nil && gone {
		err = unix.ENOENT
	}
	if err != nil {
		return &FileError{Op: "rmdir", Path: d.Join(name), Err: err}
	}
	return d.rmdir(name)
}

// Unmake removes the empty directory name below d that the caller has made a moment
// ago and could not open, for lack of descriptors or of memory: it takes neither. One
// that is gone is nil.
func (d *Dir) Unmake(name string) error {
	err := d.rmdir(name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (d *Dir) rmdir(name string) error {
	if d.fake != nil {
		return d.fakeRmdir(name)
	}
	return d.at("rmdir", name, func(dir int) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

// Gone reports whether the directory was removed. It is the cheapest question
// that the kernel answers: getdents(2) without room for an entry is EINVAL, and
// ENOENT in a removed directory.
func (d *Dir) Gone() (bool, error) {
	if d.fake != nil {
		return d.fakeGone()
	}
	dir, err := d.handle.enter()
	if err != nil {
		return false, err
	}
	defer d.handle.leave()
	var none [1]byte
	err = retry(func() error { _, err := unix.Getdents(dir, none[:]); return err })
	switch err {
	case nil, unix.EINVAL:
		return false, nil
	case unix.ENOENT:
		return true, nil
	}
	return false, &FileError{Op: "getdents", Path: d.path, Err: err}
}

func (d *Dir) at(op, name string, call func(dir int) error) error {
	err := checkName(name)
	if err == nil {
		var dir int
		if dir, err = d.handle.enter(); err == nil {
			err = retry(func() error { return call(dir) })
			d.handle.leave()
		}
	}
	if err != nil {
		return &FileError{Op: op, Path: d.Join(name), Err: err}
	}
	return nil
}

// Subdirs is the number of directories directly below d. It costs one fstat(2):
// kernfs counts them as links.
func (d *Dir) Subdirs() (int, error) {
	if d.fake != nil {
		return d.fakeSubdirs()
	}
	st, err := d.stat()
	return max(0, int(st.Nlink)-2), err
}

// Dirs lists the names of the directories directly below d, sorted.
func (d *Dir) Dirs() ([]string, error) {
	if d.fake != nil {
		return d.fakeDirs()
	}
	dir, err := d.handle.enter()
	if err != nil {
		return nil, &FileError{Op: "read", Path: d.path, Err: err}
	}
	defer d.handle.leave()
	// A descriptor has one read position; a fresh one belongs to this call.
	fd, err := retryFD(func() (int, error) {
		return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &FileError{Op: "open", Path: d.path, Err: err}
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, &FileError{Op: "read", Path: d.path, Err: err}
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Has reports whether a file or directory name exists below d.
func (d *Dir) Has(name string) (bool, error) {
	if d.fake != nil {
		return d.fakeHas(name)
	}
	fd, err := d.openat(name, unix.O_PATH|unix.O_NOFOLLOW)
	switch {
	case err == nil:
		return true, unix.Close(fd)
	case errors.Is(err, unix.ENOENT):
		return false, nil
	}
	return false, &FileError{Op: "stat", Path: d.Join(name), Err: err}
}

// ReadFile reads name whole, appending to buf[:0].
func (d *Dir) ReadFile(name string, buf []byte) ([]byte, error) {
	f, err := d.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Read(buf)
}

// WriteFile writes data to the existing file name in one write.
func (d *Dir) WriteFile(name, data string) error {
	if d.fake != nil {
		return d.fakeWriteFile(name, data)
	}
	fd, err := d.openat(name, unix.O_WRONLY)
	if err != nil {
		return &FileError{Op: "write", Path: d.Join(name), Data: data, Err: err}
	}
	f := File{handle: handle{fd: int32(fd)}, dir: d.path, name: name}
	defer f.Close()
	return f.Write(data)
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// retryFD repeats openat2's EAGAIN too: a rename elsewhere raced with the
// confined walk.
func retryFD(call func() (int, error)) (fd int, err error) {
	for range 1000 {
		if fd, err = call(); err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}
