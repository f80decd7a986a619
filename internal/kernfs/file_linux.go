// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"io"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a held kernel file. It is safe for concurrent use: reads and writes
// carry no position.
type File struct {
	handle    handle
	dir, name string
}

// Open holds the file name below d. flag is os.O_RDONLY, os.O_WRONLY or
// os.O_RDWR, with unix.O_NONBLOCK where the file knows it.
func (d *Dir) Open(name string, flag int) (*File, error) {
	if d.fake != nil {
		return d.fakeOpen(name, flag)
	}
	fd, err := d.openat(name, flag)
	if err != nil {
		return nil, &FileError{Op: "open", Path: d.Join(name), Err: err}
	}
	return &File{handle: handle{fd: int32(fd)}, dir: d.path, name: name}, nil
}

// Path is the file's name, for messages.
func (f *File) Path() string { return strings.TrimSuffix(f.dir, "/") + "/" + f.name }

// FD is the descriptor's number, valid until Close; -1 afterwards.
func (f *File) FD() int { return f.handle.number() }

// Close frees the descriptor once the calls that run on it have ended. Closing
// twice is nil.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	return f.handle.close()
}

// ReadAt reads once from offset 0 into buf and returns the bytes read. A file
// longer than buf is cut: n == len(buf) tells. It does not allocate unless it
// fails.
func (f *File) ReadAt(buf []byte) (n int, err error) { return f.pread(buf, 0) }

func (f *File) pread(buf []byte, at int) (n int, err error) {
	if f.handle.fake != nil {
		return f.fakeRead(buf, at)
	}
	fd, err := f.handle.enter()
	if err == nil {
		for {
			if n, err = unix.Pread(fd, buf, int64(at)); err != unix.EINTR {
				break
			}
		}
		f.handle.leave()
	}
	if err != nil {
		return 0, &FileError{Op: "read", Path: f.Path(), Err: err}
	}
	return n, nil
}

// Read reads the whole file into buf[:0], growing it when the file is longer,
// and returns it. Files that are lists of records, such as cgroup.procs, come
// in pieces of about a page, which are not of one moment.
func (f *File) Read(buf []byte) ([]byte, error) {
	buf = buf[:cap(buf)]
	n := 0
	for {
		if n == len(buf) {
			const most = 1 << 24
			if n >= most {
				return nil, &FileError{Op: "read", Path: f.Path(), Err: unix.EFBIG}
			}
			buf = slices.Grow(buf[:n], max(512, 3*n))
			buf = buf[:cap(buf)]
		}
		m, err := f.pread(buf[n:], n)
		if err != nil {
			return nil, err
		}
		// Only an empty read has surely seen the end.
		if m == 0 {
			return buf[:n], nil
		}
		n += m
	}
}

// Write writes data in one write(2). It does not allocate unless it fails.
func (f *File) Write(data string) error {
	if f.handle.fake != nil {
		return f.fakeWrite(data)
	}
	fd, err := f.handle.enter()
	if err != nil {
		return &FileError{Op: "write", Path: f.Path(), Data: data, Err: err}
	}
	defer f.handle.leave()
	b := unsafe.Slice(unsafe.StringData(data), len(data)) // write(2) only reads it
	for {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &FileError{Op: "write", Path: f.Path(), Data: data, Err: err}
		case n != len(b):
			return &FileError{Op: "write", Path: f.Path(), Data: data, Err: io.ErrShortWrite}
		}
		return nil
	}
}
