// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// File is a held kernel file. It is safe for concurrent use: reads and writes
// carry no position.
type File struct {
	fd        *sys.FD
	dir, name string
}

// Open holds the file name below d. flag is os.O_RDONLY, os.O_WRONLY or
// os.O_RDWR, with unix.O_NONBLOCK where the file knows it.
func (d *Dir) Open(name string, flag int) (*File, error) {
	fd, err := d.openat(name, flag)
	if err != nil {
		return nil, &FileError{Op: "open", Path: d.Join(name), Err: err}
	}
	return &File{fd: sys.NewFD(fd), dir: d.path, name: name}, nil
}

// Path is the file's name, for messages.
func (f *File) Path() string { return filepath.Join(f.dir, f.name) }

// FD is the descriptor's number, valid until Close.
func (f *File) FD() int { return f.fd.Int() }

// Close frees the descriptor. Closing twice is nil.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	return f.fd.Close()
}

// ReadAt reads once from offset 0 into buf and returns the bytes read. A file
// longer than buf is cut: n == len(buf) tells. It does not allocate unless it
// fails.
func (f *File) ReadAt(buf []byte) (n int, err error) {
	fd := f.fd.Int()
	if fd < 0 {
		return 0, &FileError{Op: "read", Path: f.Path(), Err: os.ErrClosed}
	}
	for {
		n, err = unix.Pread(fd, buf, 0)
		if err == nil {
			return n, nil
		}
		if err != unix.EINTR {
			return 0, &FileError{Op: "read", Path: f.Path(), Err: err}
		}
	}
}

// Read reads the whole file into buf[:0], growing it when the file is longer,
// and returns it.
func (f *File) Read(buf []byte) ([]byte, error) {
	buf = buf[:cap(buf)]
	if len(buf) == 0 {
		buf = make([]byte, 512)
	}
	for {
		n, err := f.ReadAt(buf)
		if err != nil {
			return nil, err
		}
		// Only a read that leaves room has surely seen the end.
		if n < len(buf) {
			return buf[:n], nil
		}
		const most = 1 << 24
		if len(buf) >= most {
			return nil, &FileError{Op: "read", Path: f.Path(), Err: unix.EFBIG}
		}
		buf = slices.Grow(buf[:0], 4*len(buf))
		buf = buf[:cap(buf)]
	}
}

// Write writes data in one write(2). It does not allocate unless it fails.
func (f *File) Write(data string) error {
	fd := f.fd.Int()
	if fd < 0 {
		return &FileError{Op: "write", Path: f.Path(), Data: data, Err: os.ErrClosed}
	}
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
