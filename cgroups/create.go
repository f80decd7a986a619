// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Create makes the group at path, relative to the tops, and puts it under the
// controllers in want; 0 means all that the root has, without v1's freezer
// where there is a unified tree. It is always in the unified tree too.
//
// Only the last element of path is made: its parents must exist in every tree
// that is needed. On v2 the controllers are enabled in cgroup.subtree_control
// of the groups above, as far as they are not; that is never undone, since
// others may rely on it by then. On v1 a new cpuset gets its parent's CPUs and
// memory nodes; where a foreign tool has left the parent's empty, these are
// filled in first.
//
// Create makes everything or nothing. The error matches [os.ErrExist] if a
// group of this path exists in any of the trees (it is not touched),
// [os.ErrNotExist] if a parent does not, [ErrInvalid] for a path that is not
// relative, clean and printable or that could collide with the kernel's files,
// [ErrNotSupported] for a controller that the root does not have. A group above
// that has processes of its own is an [InternalProcessError] on v2, one whose
// cgroup.max.depth or cgroup.max.descendants is reached a [TreeLimitError].
func (r *Root) Create(path string, want Controllers) (*Cgroup, error) {
	if err := checkNewPath(path); err != nil {
		return nil, err
	}
	if want == 0 {
		want = r.Controllers()
		if r.unified != nil {
			want &^= ControllersOf(ControllerFreezer)
		}
	}
	if err := r.has(want); err != nil {
		return nil, err
	}
	c := &Cgroup{root: r, path: path, nodes: make([]*node, 0, len(r.hierarchies))}
	// Who makes the directory in the unified tree has the name in all of them:
	// of several that create one path, one wins.
	trees := make([]*hierarchy, 0, len(r.hierarchies))
	if r.unified != nil {
		trees = append(trees, r.unified)
	}
	for _, h := range r.hierarchies {
		if h != r.unified && h.controllers&want != 0 {
			trees = append(trees, h)
		}
	}
	for _, h := range trees {
		if err := c.extend(h, want); err != nil {
			return nil, errors.Join(err, c.discard())
		}
	}
	if err := c.identify(); err != nil {
		return nil, errors.Join(err, c.discard())
	}
	return c, nil
}

// extend makes the group in h, with what it needs to work there.
func (c *Cgroup) extend(h *hierarchy, want Controllers) error {
	n, err := h.create(c.path)
	if err != nil {
		return err
	}
	have, err := n.prepare(c.path, want)
	c.place(n, have)
	return err
}

// has reports whether all of want can be had.
func (r *Root) has(want Controllers) error {
	if unknown := want >> numControllers; unknown != 0 {
		return &InvalidError{Field: "controllers", Value: fmt.Sprintf("%#x", uint16(want)), Reason: "not a set of known controllers"}
	}
	for _, ctl := range want.List() {
		if r.where[ctl] == nil && !r.without(ctl) {
			return noController(ctl)
		}
	}
	return nil
}

// without reports whether v2 does ctl's work without a controller of this name.
func (r *Root) without(ctl Controller) bool {
	switch ctl {
	case ControllerDevices, ControllerFreezer: // a BPF program; cgroup.freeze
		return r.unified != nil
	case ControllerCPUAcct: // cpu.stat
		return r.unified != nil
	case ControllerCPU, ControllerCPUSet, ControllerMemory, ControllerIO, ControllerPIDs,
		ControllerHugeTLB, ControllerRDMA, ControllerMisc, numControllers:
	}
	return false
}

func noController(ctl Controller) error {
	return &UnsupportedError{
		Feature: ctl.String() + " controller",
		Reason:  "it is in no mounted hierarchy: the kernel lacks it or has it disabled, or nobody mounted it",
	}
}

// create makes the group's directory in h.
func (h *hierarchy) create(path string) (*node, error) {
	if err := h.dir.Mkdir(path, 0o755); err != nil {
		return nil, h.explainMkdir(path, err)
	}
	dir, err := h.dir.OpenDir(path)
	if err != nil {
		return nil, errors.Join(err, h.dir.Unmake(path))
	}
	n := &node{in: h, dir: dir, path: path}
	n.created.Store(true)
	return n, nil
}

// prepare makes the controllers of a new directory work and returns those that
// it is under: on v2 at least its tree's among want, on v1 all of its tree.
func (n *node) prepare(path string, want Controllers) (Controllers, error) {
	if n.in.v2 {
		return n.enable(path, n.in.controllers&want)
	}
	if n.in.controllers.Has(ControllerCPUSet) {
		if err := n.inheritCPUSet(path); err != nil {
			return 0, err
		}
	}
	if n.in.flat {
		// Until Linux 5.11 (bef8620cd8e0 "mm: memcg: deprecate the
		// non-hierarchical mode") each group chooses, before it has any below.
		if err := n.dir.WriteFile(useHierarchyV1, "1"); err != nil {
			return 0, n.failed(err)
		}
	}
	return n.in.controllers, nil
}

// place puts n into a group that nobody else has yet. Trees come in the root's
// order, but for the unified one, which may come first.
func (c *Cgroup) place(n *node, under Controllers) {
	i := len(c.nodes)
	if c.uni != nil {
		i--
	}
	c.nodes = slices.Insert(c.nodes, i, n)
	if n.in == c.root.unified {
		c.uni = n
	}
	c.put(n, under)
}

// put notes where the files of some controllers are.
func (c *Cgroup) put(n *node, under Controllers) {
	for _, ctl := range under.List() {
		c.at[ctl] = n
	}
}

// discard undoes a Create that failed.
func (c *Cgroup) discard() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.discard(c.path))
	}
	return errors.Join(errs...)
}

// discard removes a directory that was just made.
func (n *node) discard(path string) error {
	err := n.in.dir.Rmdir(path, n.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("left behind: %w", err)
	}
	return errors.Join(err, n.dir.Close())
}

// Open holds the existing group at path, relative to the tops, in every tree
// that has it; there must be one. It owns nothing: [Cgroup.Remove] removes
// nothing unless [Cgroup.Own] says that the caller made the group. The error
// matches [os.ErrNotExist] if no tree has the path.
func (r *Root) Open(path string) (*Cgroup, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	c := &Cgroup{root: r, path: path}
	var absent error
	for _, h := range r.hierarchies {
		dir, err := h.dir.OpenDir(path)
		if errors.Is(err, fs.ErrNotExist) {
			absent = err
			continue
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		under := h.controllers
		if h.v2 {
			if under, err = readControllers(dir, fileControllers); err != nil {
				return nil, errors.Join(err, dir.Close(), c.Close())
			}
		}
		c.place(&node{in: h, dir: dir, path: path}, under)
	}
	if len(c.nodes) == 0 {
		return nil, absent
	}
	if err := c.identify(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
