// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// SetXattr sets the extended attribute name of the directory.
func (d *Dir) SetXattr(name, value string) error {
	if d.fake != nil {
		return d.asFake("setxattr "+name, "", func(f FakeDir) error { return f.SetXattr(name, value) })
	}
	err := d.xattr(func(fd int) error { return unix.Fsetxattr(fd, name, []byte(value), 0) })
	if err != nil {
		return &FileError{Op: "setxattr " + name, Path: d.path, Err: err}
	}
	return nil
}

// RemoveXattr removes the extended attribute name of the directory.
func (d *Dir) RemoveXattr(name string) error {
	if d.fake != nil {
		return d.asFake("removexattr "+name, "", func(f FakeDir) error { return f.RemoveXattr(name) })
	}
	if err := d.xattr(func(fd int) error { return unix.Fremovexattr(fd, name) }); err != nil {
		return &FileError{Op: "removexattr " + name, Path: d.path, Err: err}
	}
	return nil
}

// Xattrs reads the extended attributes whose names begin with prefix, without
// the prefix.
func (d *Dir) Xattrs(prefix string) (map[string]string, error) {
	if d.fake != nil {
		return d.fakeXattrs(prefix)
	}
	list, err := d.sized(func(fd int, buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if err != nil {
		return nil, &FileError{Op: "listxattr", Path: d.path, Err: err}
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(string(list), "\x00") {
		short, ok := strings.CutPrefix(name, prefix)
		if !ok || short == "" {
			continue
		}
		value, err := d.sized(func(fd int, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if err == unix.ENODATA {
			continue // removed since
		}
		if err != nil {
			return nil, &FileError{Op: "getxattr " + name, Path: d.path, Err: err}
		}
		all[short] = string(value)
	}
	return all, nil
}

func (d *Dir) xattr(call func(fd int) error) error {
	fd, err := d.handle.enter()
	if err != nil {
		return err
	}
	defer d.handle.leave()
	return retry(func() error { return call(fd) })
}

// sized calls call with a buffer that is large enough, up to the kernel's own
// limit of 64 KiB.
func (d *Dir) sized(call func(fd int, buf []byte) (int, error)) (buf []byte, err error) {
	const most = 64 << 10
	for size := 512; ; size = most {
		buf = make([]byte, size)
		n := 0
		err = d.xattr(func(fd int) error {
			n, err = call(fd, buf)
			return err
		})
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE || size == most {
			return nil, err
		}
	}
}
