// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernfs

import (
	"context"
	"io/fs"

	"github.com/caisson-run/caisson/internal/feature"
)

var errOther error = &feature.UnsupportedError{Feature: "kernel file systems", Reason: "only Linux has them"}

// ID identifies a directory.
type ID struct{ Dev, Ino uint64 }

// Dir is a held directory; there is none on this system.
type Dir struct{}

// File is a held file; there is none on this system.
type File struct{}

// OpenDir returns ErrNotSupported.
func OpenDir(string) (*Dir, error) { return nil, errOther }

// Path is empty.
func (*Dir) Path() string { return "" }

// ID returns ErrNotSupported.
func (*Dir) ID() (ID, error) { return ID{}, errOther }

// Gone returns ErrNotSupported.
func (*Dir) Gone() (bool, error) { return false, errOther }

// FD is -1.
func (*Dir) FD() int { return -1 }

// Close is nil.
func (*Dir) Close() error { return nil }

// Join returns name.
func (*Dir) Join(name string) string { return name }

// OpenDir returns ErrNotSupported.
func (*Dir) OpenDir(string) (*Dir, error) { return nil, errOther }

// Mkdir returns ErrNotSupported.
func (*Dir) Mkdir(string, fs.FileMode) error { return errOther }

// Rmdir returns ErrNotSupported.
func (*Dir) Rmdir(string, *Dir) error { return errOther }

// Unmake returns ErrNotSupported.
func (*Dir) Unmake(string) error { return errOther }

// Subdirs returns ErrNotSupported.
func (*Dir) Subdirs() (int, error) { return 0, errOther }

// Dirs returns ErrNotSupported.
func (*Dir) Dirs() ([]string, error) { return nil, errOther }

// Has returns ErrNotSupported.
func (*Dir) Has(string) (bool, error) { return false, errOther }

// ReadFile returns ErrNotSupported.
func (*Dir) ReadFile(string, []byte) ([]byte, error) { return nil, errOther }

// WriteFile returns ErrNotSupported.
func (*Dir) WriteFile(string, string) error { return errOther }

// Open returns ErrNotSupported.
func (*Dir) Open(string, int) (*File, error) { return nil, errOther }

// Path is empty.
func (*File) Path() string { return "" }

// FD is -1.
func (*File) FD() int { return -1 }

// Close is nil.
func (*File) Close() error { return nil }

// ReadAt returns ErrNotSupported.
func (*File) ReadAt([]byte) (int, error) { return 0, errOther }

// Read returns ErrNotSupported.
func (*File) Read([]byte) ([]byte, error) { return nil, errOther }

// Write returns ErrNotSupported.
func (*File) Write(string) error { return errOther }

// Cgroup returns ErrNotSupported.
func (*Dir) Cgroup() (int, error) { return 0, errOther }

// OnDevice returns ErrNotSupported.
func (*Dir) OnDevice(uint32, uint32) (bool, error) { return false, errOther }

// MountDetached returns ErrNotSupported.
func MountDetached(string, string) (*Dir, error) { return nil, errOther }

// SetXattr returns ErrNotSupported.
func (*Dir) SetXattr(string, string) error { return errOther }

// RemoveXattr returns ErrNotSupported.
func (*Dir) RemoveXattr(string) error { return errOther }

// Xattrs returns ErrNotSupported.
func (*Dir) Xattrs(string) (map[string]string, error) { return nil, errOther }

// Wait returns ErrNotSupported.
func (*File) Wait(context.Context) error { return errOther }

// SlowWrite is a write that may take long; there is none on this system.
type SlowWrite struct{}

// StartWrite returns ErrNotSupported.
func (*Dir) StartWrite(string, string, int) (*SlowWrite, error) { return nil, errOther }

// Interrupt does nothing.
func (*SlowWrite) Interrupt() {}

// Done is nil.
func (*SlowWrite) Done() <-chan struct{} { return nil }

// Wait returns ErrNotSupported.
func (*SlowWrite) Wait(context.Context) (bool, error) { return true, errOther }

// Fake is a directory that answers ErrNotSupported.
func Fake(FakeDir, string) *Dir { return &Dir{} }

// IsFake is false.
func (*Dir) IsFake() bool { return false }

// NotifyFake is false.
func (*File) NotifyFake(func()) bool { return false }

// WaitOr returns ErrNotSupported.
func (*File) WaitOr(context.Context, int) (bool, error) { return false, errOther }
