// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
)

// Numbers of our projects.
const (
	first = 1 << 30
	count = 1 << 30
)

// fsxattr is struct fsxattr of FS_IOC_FSGETXATTR.
type fsxattr struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

// block is struct if_dqblk.
type block struct {
	hard, soft, space, inodesHard, inodesSoft, inodes, blockTime, inodeTime uint64
	valid                                                                   uint32
	_                                                                       [4]byte
}

// state is struct fs_quota_stat.
type state struct {
	version int8
	flags   uint16
	_       [76]byte
}

// Of linux/fs.h and linux/quota.h.
const (
	getAttr     = 0x801c581f // FS_IOC_FSGETXATTR
	setAttr     = 0x401c5820 // FS_IOC_FSSETXATTR
	inherits    = 0x200      // FS_XFLAG_PROJINHERIT
	projects    = 2          // PRJQUOTA
	getQuota    = 0x800007
	setQuota    = 0x800008
	getState    = 0x5805 // Q_XGETQSTAT
	enforced    = 1 << 5 // FS_QUOTA_PDQ_ENFD
	blockLimits = 1      // QIF_BLIMITS
	unit        = 1024   // of hard
)

// Limit lets no more than so many bytes be in dir, which is empty but for empty
// directories of the given names, or has a limit of ours already. It stays in force for
// as long as there is the directory.
//
// A file system that cannot is [feature.ErrNotSupported], and so is a directory that is
// in somebody else's project. The caller has CAP_SYS_ADMIN, or matches that too.
//
// Linux 5.14.
func Limit(dir string, bytes uint64, names ...string) (err error) {
	d, err := open(unix.AT_FDCWD, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	var st state
	if err := d.quota(getState, 0, unsafe.Pointer(&st)); err != nil {
		return d.unsupported(err)
	}
	if st.flags&enforced == 0 {
		return d.unsupported(errors.New("it is not mounted with prjquota"))
	}
	a, err := d.attr()
	if err != nil {
		return d.unsupported(err)
	}
	above, err := d.above()
	if err != nil {
		return err
	}
	ours := a.project >= first && a.project-first < count
	switch {
	case a.project != 0 && (!ours || a.project == above):
		return d.unsupported(fmt.Errorf("%s is in project %d, which is another's, and can be in one alone", dir, a.project))
	case ours:
		return d.set(a.project, bytes)
	}
	if err := d.empty(names); err != nil {
		return err
	}
	return d.take(a, bytes, names)
}

// take finds a number that nobody has and puts the directory and its names into it.
func (d *directory) take(a fsxattr, bytes uint64, names []string) error {
	const tries = 64
	for range tries {
		id := first + rand.Uint32N(count)
		b, err := d.get(id)
		if err != nil {
			return d.unsupported(err)
		}
		if b.used() {
			continue
		}
		if err := d.set(id, bytes); err != nil {
			return d.unsupported(err)
		}
		if err := d.join(a, id); err != nil {
			return d.unsupported(err)
		}
		// Another who has taken it in the same moment has a file in it too.
		if b, err = d.get(id); err != nil || b.inodes > 1 {
			if err := errors.Join(err, d.join(a, 0)); err != nil {
				return err
			}
			continue
		}
		for _, name := range names {
			if err := d.joinBelow(name, id); err != nil {
				return errors.Join(err, d.join(a, 0))
			}
		}
		return nil
	}
	return fmt.Errorf("no number of a project is free on the file system of %s", d.Name())
}

func (b *block) used() bool {
	return b.hard|b.soft|b.space|b.inodesHard|b.inodesSoft|b.inodes != 0
}

// directory is an open one.
type directory struct{ *os.File }

func open(at int, path string) (*directory, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &directory{os.NewFile(uintptr(fd), path)}, nil
}

// empty is an error unless there is nothing but empty directories of these names.
func (d *directory) empty(names []string) error {
	entries, err := d.ReadDir(-1)
	for _, e := range entries {
		known := false
		for _, name := range names {
			known = known || e.Name() == name
		}
		if !known {
			return &os.PathError{Op: "limit", Path: d.Name(), Err: fmt.Errorf("%q is in it, which no quota counts: give an empty directory", e.Name())}
		}
		below, err := open(int(d.Fd()), e.Name())
		if err != nil {
			return err
		}
		err = errors.Join(below.empty(nil), below.Close())
		if err != nil {
			return err
		}
	}
	return err
}

// above is the project of the directory that d is in.
func (d *directory) above() (project uint32, err error) {
	up, err := open(int(d.Fd()), "..")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, up.Close()) }()
	a, err := up.attr()
	if err != nil { // it is on another file system
		return 0, nil
	}
	return a.project, nil
}

func (d *directory) attr() (a fsxattr, err error) {
	return a, d.ioctl(getAttr, &a)
}

// join puts d into a project, or out of any.
func (d *directory) join(a fsxattr, id uint32) error {
	a.project = id
	if a.flags |= inherits; id == 0 {
		a.flags &^= inherits
	}
	return d.ioctl(setAttr, &a)
}

func (d *directory) joinBelow(name string, id uint32) (err error) {
	below, err := open(int(d.Fd()), name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, below.Close()) }()
	a, err := below.attr()
	if err != nil {
		return err
	}
	return below.join(a, id)
}

func (d *directory) ioctl(request uintptr, a *fsxattr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(unsafe.Pointer(a)))
	if errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

// get is what the kernel knows of a project: nothing, of one that never was.
func (d *directory) get(id uint32) (b block, err error) {
	err = d.quota(getQuota, id, unsafe.Pointer(&b))
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return b, err
}

func (d *directory) set(id uint32, bytes uint64) error {
	b := block{hard: (bytes + unit - 1) / unit, valid: blockLimits}
	return d.quota(setQuota, id, unsafe.Pointer(&b))
}

func (d *directory) quota(command, id uint32, at unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), uintptr(command<<8|projects), uintptr(id), uintptr(at), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("quotactl_fd", errno)
	}
	return nil
}

func (d *directory) unsupported(err error) error {
	return &feature.UnsupportedError{Feature: "project quota of " + d.Name(), Since: "Linux 5.14",
		Reason: "its file system and this user have to be able to: ext4 or xfs mounted with prjquota, and CAP_SYS_ADMIN", Err: err}
}
