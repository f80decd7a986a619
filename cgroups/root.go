// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// defaultMount is where systemd and everybody after it mounts cgroups.
const defaultMount = "/sys/fs/cgroup"

// detachedPath is what errors call the top of the detached cgroup2 mount.
const detachedPath = "cgroup2:"

// Open finds the hierarchies that are mounted at or below the directory path,
// normally /sys/fs/cgroup, which "" means. An agent in a container passes the
// place where it has the host's: each hierarchy is taken from the top of its
// mount downwards.
//
// What is there is asked of the kernel: /proc/self/mountinfo for the mounts and
// the controllers of v1, cgroup.controllers for those of v2. v1 controllers may
// be mounted alone or together; hierarchies with none that this package knows
// (name=systemd, net_cls) are not touched. A cgroup2 tree that is mounted
// elsewhere than below path is used too. If there is none beside v1
// controllers, one is mounted detached, without a path; that needs
// CAP_SYS_ADMIN, and without it the Root has no unified tree.
//
// A directory inside a cgroup2 tree, such as one that was delegated to a user,
// is taken as the top of that tree.
//
// Open changes nothing in any tree. It returns an error that matches
// [os.ErrNotExist] if the directory is not there, [ErrNotSupported] if no
// hierarchy is mounted there.
func Open(path string) (*Root, error) {
	if runtime.GOOS != "linux" {
		return nil, &UnsupportedError{Feature: "cgroups", Reason: "only Linux has them"}
	}
	if path == "" {
		path = defaultMount
	}
	at, err := filepath.Abs(path)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return nil, err
	}
	const mountinfo = "/proc/self/mountinfo"
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, err
	}
	mounts, err := parseMounts(b)
	if err != nil {
		return nil, &FileError{Op: "parse", Path: mountinfo, Err: err}
	}
	// Of several mounts of one hierarchy the one nearest to the top counts.
	slices.SortStableFunc(mounts, func(a, b mount) int { return len(a.point) - len(b.point) })
	r := &Root{}
	r.budget.open()
	if err := r.find(at, mounts); err != nil {
		_ = r.Close()
		return nil, err
	}
	if len(r.hierarchies) == 0 {
		return nil, &UnsupportedError{Feature: "cgroups", Reason: "no hierarchy is mounted at or below " + at}
	}
	return r, nil
}

// find opens the hierarchies' tops.
func (r *Root) find(at string, mounts []mount) error {
	below := func(m mount) bool { _, ok := within(at, m.point); return ok }
	for _, m := range mounts {
		if !m.v2 && m.controllers != 0 && below(m) {
			if err := r.take(m); err != nil {
				return err
			}
		}
	}
	legacy := len(r.hierarchies) > 0
	for _, m := range mounts {
		if m.v2 && below(m) {
			if err := r.take(m); err != nil {
				return err
			}
		}
	}
	if !legacy && r.unified == nil {
		r.mode = Unified
		return r.subtree(at, mounts)
	}
	// Mounting cgroup2 once more would reset the options of the mount that
	// there is (nsdelegate, memory_recursiveprot), so that one comes first.
	for _, m := range mounts {
		if m.v2 && m.root == "/" {
			// It may be in a directory that is closed to this user.
			if err := r.take(m); err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
		}
	}
	switch {
	case !legacy:
		r.mode = Unified
	case r.unified != nil:
		r.mode = Hybrid
	default:
		r.mode = Legacy
		return r.mountUnified()
	}
	return nil
}

// subtree takes a directory inside a mounted cgroup2 tree as the top: what an
// ordinary user is given to manage.
func (r *Root) subtree(at string, mounts []mount) error {
	dir, err := kernfs.OpenDir(at)
	if err != nil {
		return err
	}
	version, err := dir.Cgroup()
	if err != nil || version != 2 {
		return errors.Join(err, dir.Close())
	}
	h := &hierarchy{v2: true, dir: dir}
	for _, m := range mounts {
		here, err := dir.OnDevice(m.major, m.minor)
		if err != nil {
			return errors.Join(err, dir.Close())
		}
		if rest, ok := within(m.point, at); ok && m.v2 && here {
			h.root = path.Join(m.root, rest)
		}
	}
	return r.add(h)
}

// within reports whether p is dir or below it, and where from there.
func within(dir, p string) (rest string, ok bool) {
	if dir == "/" || p == dir {
		return strings.TrimPrefix(p, dir), true
	}
	return strings.CutPrefix(p, dir+"/")
}

// take opens the mount m as a hierarchy, unless it is covered by another mount
// or its hierarchy is known already.
func (r *Root) take(m mount) error {
	if m.v2 && r.unified != nil {
		return nil
	}
	if !m.v2 && r.where[m.controllers.first()] != nil {
		return nil
	}
	dir, err := kernfs.OpenDir(m.point)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	here, err := dir.OnDevice(m.major, m.minor)
	if err != nil || !here {
		return errors.Join(err, dir.Close()) // covered
	}
	h := &hierarchy{v2: m.v2, controllers: m.controllers, dir: dir, root: m.root}
	if !m.v2 && m.controllers.Has(ControllerMemory) {
		// A file that is not there, or not to be read, chooses nothing.
		text, err := dir.ReadFile(useHierarchyV1, nil)
		h.flat = err == nil && strings.TrimSpace(string(text)) == "0"
	}
	return r.add(h)
}

func (r *Root) mountUnified() error {
	dir, err := kernfs.MountDetached("cgroup2", detachedPath)
	if err != nil {
		r.noUnified = &UnsupportedError{
			Feature: "unified cgroup tree", Since: "Linux 5.2",
			Reason: "no cgroup2 tree is mounted, and mounting one detached failed", Err: err,
		}
		return nil //nolint:nilerr // kept for whoever needs the tree
	}
	return r.add(&hierarchy{v2: true, dir: dir, root: "/", detached: true})
}

// add owns h.
func (r *Root) add(h *hierarchy) error {
	r.hierarchies = append(r.hierarchies, h)
	if h.v2 {
		var err error
		if h.controllers, err = readControllers(h.dir, fileControllers); err != nil {
			return err
		}
		r.unified = h
	}
	for _, c := range h.controllers.List() {
		r.where[c] = h
	}
	return nil
}

// readControllers reads a file that lists controllers, such as
// cgroup.controllers. Unknown ones are left out.
func readControllers(dir *kernfs.Dir, name string) (Controllers, error) {
	var buf [256]byte
	b, err := dir.ReadFile(name, buf[:])
	if err != nil {
		return 0, err
	}
	var set Controllers
	for word := range strings.FieldsSeq(string(b)) {
		if c, known := parseController(word); known {
			set |= ControllersOf(c)
		}
	}
	return set, nil
}

// Mode is how the hierarchies are laid out.
func (r *Root) Mode() Mode { return r.mode }

// Controllers are the controllers that this root has, in any hierarchy. On v2
// devices and freezer are none: every group has them without.
func (r *Root) Controllers() Controllers {
	var s Controllers
	for _, h := range r.hierarchies {
		s |= h.controllers
	}
	return s
}

// Where says in which hierarchy a controller is: its mount point and the
// version of its files, 1 or 2. The path is empty if that is the detached
// mount.
func (r *Root) Where(c Controller) (path string, version int, ok bool) {
	if c >= numControllers || r.where[c] == nil {
		return "", 0, false
	}
	h := r.where[c]
	if h.v2 {
		version = 2
	} else {
		version = 1
	}
	return h.mountPoint(), version, true
}

// Unified says where the cgroup2 tree is, which has pressure, cgroup.kill and
// cgroup.freeze in every mode. The path is empty if it is the detached mount.
// It is missing only on a [Legacy] root without CAP_SYS_ADMIN.
func (r *Root) Unified() (path string, ok bool) {
	if r.unified == nil {
		return "", false
	}
	return r.unified.mountPoint(), true
}

// Detached reports whether the unified tree is a mount of our own, without a
// path.
func (r *Root) Detached() bool { return r.unified != nil && r.unified.detached }

// Close frees the descriptors of the trees' tops, and with them a detached
// mount. Groups live on, and their values can still be measured and changed,
// but neither moved, enabled nor removed. Closing twice is nil.
func (r *Root) Close() error {
	errs := []error{r.pressure.close()}
	for _, h := range r.hierarchies {
		errs = append(errs, h.dir.Close())
	}
	return errors.Join(errs...)
}

func (h *hierarchy) mountPoint() string {
	if h.detached {
		return ""
	}
	return h.dir.Path()
}
