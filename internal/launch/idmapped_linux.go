// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/sys"
)

// idmapped is a mount that the parent makes, who has the right to, once the
// child's user namespace is filled: while the two still share descriptors, so that
// it is the child's in the same moment, under a number that was taken before.
type idmapped struct {
	path string
	fd   *sys.FD // /dev/null until then
}

// idmappedAt takes a number for the mount of a path.
func (p *Program) idmappedAt(path string) (*idmapped, error) {
	if !hasSetattr() {
		return nil, &feature.UnsupportedError{Feature: "idmapped mount", Since: "Linux 5.12", Reason: "this kernel has no mount_setattr"}
	}
	fd, err := unix.Open(os.DevNull, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	m := &idmapped{path, sys.NewFD(fd)}
	p.idmapped = append(p.idmapped, m)
	return m, nil
}

// reserveIDMapped replaces what is to be idmapped by mounts that the parent makes.
func (p *Program) reserveIDMapped(s *Spec) error {
	if s.Root == nil || !s.Root.idMapped() {
		return nil
	}
	root := *s.Root
	s.Root = &root
	root.Items = append([]Item(nil), root.Items...)
	s.Root.Items = root.Items
	trees := []*Tree{&s.Root.Tree}
	for i := range s.Root.Items {
		if m := s.Root.Items[i].Mount; m != nil && m.IDMapped {
			mount := *m
			s.Root.Items[i].Mount = &mount
			trees = append(trees, &mount)
		}
	}
	for _, t := range trees {
		if t.IDMapped {
			m, err := p.idmappedAt(t.Bind)
			if err != nil {
				return err
			}
			t.FD, t.Bind = &File{FD: m.fd.Int(), Path: t.Bind}, ""
		}
		if o := t.Overlay; o != nil && o.IDMapped {
			for _, dir := range o.mapped() {
				m, err := p.idmappedAt(dir)
				if err != nil {
					return err
				}
				p.layers = append(p.layers, File{FD: m.fd.Int(), Path: dir})
			}
		}
	}
	return nil
}

// mapped are the directories of an overlay that get an idmapped mount each: Upper
// and Work have to be on one.
func (o *Overlay) mapped() []string {
	if o.Upper == "" {
		return o.Lower
	}
	return append(append([]string(nil), o.Lower...), path.Dir(o.Upper))
}

// makeIDMapped makes the mounts, for the child with this pid.
func (p *Program) makeIDMapped(pid int) error {
	if len(p.idmapped) == 0 {
		return nil
	}
	user, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the user namespace: %w", err)
	}
	defer unix.Close(user)
	for _, m := range p.idmapped {
		if err := m.make(user); err != nil {
			return err
		}
	}
	return nil
}

func (m *idmapped) make(user int) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: m.path, Err: err}
	}
	defer unix.Close(fd)
	// Private too: the child cuts off what is in its own mount namespace, but this is
	// still a peer of the machine's, which would get whatever is mounted on it.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(user)}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	switch {
	case errors.Is(err, unix.EINVAL):
		return &feature.UnsupportedError{
			Feature: "idmapped mount of " + m.path, Reason: "its file system, or one that is mounted below, does not allow it on this kernel", Err: err,
		}
	case errors.Is(err, unix.EPERM):
		return &feature.UnsupportedError{
			Feature: "idmapped mount of " + m.path, Reason: "it takes CAP_SYS_ADMIN over its file system, and can be done once", Err: err,
		}
	case err != nil:
		return &os.PathError{Op: "mount_setattr", Path: m.path, Err: err}
	}
	if err := unix.Dup3(fd, m.fd.Int(), unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	return nil
}

func (p *Program) closeIDMapped() error {
	var errs []error
	for _, m := range p.idmapped {
		errs = append(errs, m.fd.Close())
	}
	return errors.Join(errs...)
}
