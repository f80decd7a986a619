// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// Cgroup reports which version of cgroups the directory belongs to: 1, 2, or 0
// if it is in another file system.
func (d *Dir) Cgroup() (version int, err error) {
	if d.fake != nil {
		return d.fakeCgroup()
	}
	var st unix.Statfs_t
	dir, err := d.handle.enter()
	if err == nil {
		err = retry(func() error { return unix.Fstatfs(dir, &st) })
		d.handle.leave()
	}
	if err != nil {
		return 0, &FileError{Op: "statfs", Path: d.path, Err: err}
	}
	switch uint32(st.Type) {
	case unix.CGROUP_SUPER_MAGIC:
		return 1, nil
	case unix.CGROUP2_SUPER_MAGIC:
		return 2, nil
	}
	return 0, nil
}

// OnDevice reports whether the directory is on the device that mountinfo calls
// major:minor.
func (d *Dir) OnDevice(major, minor uint32) (bool, error) {
	st, err := d.stat()
	return err == nil && st.Dev == unix.Mkdev(major, minor), err
}

// MountDetached mounts a file system of the given type nowhere and holds its
// top directory, which errors call path. The mount ends when the last
// descriptor in it is closed. It needs CAP_SYS_ADMIN.
//
// Linux 5.2, fsopen(2).
func MountDetached(fstype, path string) (*Dir, error) {
	mnt, err := sys.MountDetached(fstype)
	if err != nil {
		return nil, &FileError{Op: "mount", Path: path, Err: err}
	}
	defer mnt.Close()
	// The mount's own descriptor is O_PATH, which cannot be read.
	fd, err := retryFD(func() (int, error) {
		return unix.Openat(mnt.Int(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &FileError{Op: "open", Path: path, Err: err}
	}
	return newDir(fd, path), nil
}
