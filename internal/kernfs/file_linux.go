// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"io"
	"slices"
	"strings"
	"syscall"
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
func (f *File) ReadAt(buf []byte) (n int, err error) {
	if f.handle.fake != nil {
		return f.fakeRead(buf, 0)
	}
	fd, err := f.handle.enter()
	if err != nil {
		return 0, f.failed("read", "", err)
	}
	// The bare call: after the kernel each return on the way up is mispredicted,
	// and unix.Pread has three more. An offset of 0 looks the same on every machine.
	for {
		r, _, errno := syscall.Syscall6(syscall.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0, 0)
		switch errno {
		case 0:
			f.handle.leave()
			return int(r), nil
		case unix.EINTR:
		default:
			f.handle.leave()
			return 0, f.failed("read", "", errno)
		}
	}
}

func (f *File) failed(op, data string, err error) error {
	return &FileError{Op: op, Path: f.Path(), Data: data, Err: err}
}

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
		return 0, f.failed("read", "", err)
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
				return nil, f.failed("read", "", unix.EFBIG)
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
		return f.failed("write", data, err)
	}
	for {
		// The bare call, as in ReadAt; write(2) only reads what it is given.
		n, _, errno := syscall.Syscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.StringData(data))), uintptr(len(data)))
		if errno == unix.EINTR {
			continue
		}
		f.handle.leave()
		switch {
		case errno != 0:
			return f.failed("write", data, errno)
		case int(n) != len(data):
			return f.failed("write", data, io.ErrShortWrite)
		}
		return nil
	}
}
