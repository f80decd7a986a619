// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/caisson-run/caisson/internal/linux"
)

// Place is where a group is in one tree. Runtimes on v1 need not use the same
// path in each.
type Place struct {
	Tree string `json:"tree"` // "unified", or the controllers of a v1 tree: "cpu,cpuacct"
	Path string `json:"path"` // relative to the tree's top
	ID   ID     `json:"id"`
}

// foreign marks a group that somebody else made, and says what it has no part
// in. It is never brought into another tree nor under another controller, and
// neither killed nor removed.
type foreign struct {
	why     [numControllers]string // why the group is not under a controller
	unified string                 // why it is not in the unified tree
}

// Adopt holds the group at path, relative to the trees' tops, that somebody else
// made for processes of his own: it can be measured, limited, watched and
// frozen. It is neither killed nor removed, and not brought into trees or under
// controllers that its maker has not put it in: updates that would need that are
// an [UnsupportedError]. A tree where the path has none of the group's processes
// is left alone.
//
// Errors are those of [Root.Open].
func (r *Root) Adopt(path string) (*Cgroup, error) {
	c, err := r.Open(path)
	if err != nil {
		return nil, err
	}
	f := &foreign{unified: "the group is not in the unified tree"}
	for _, ctl := range r.Controllers().List() {
		f.why[ctl] = "there is no group " + path + " in its tree; adopting by a process finds one of another name"
	}
	all, err := everyone(c.nodes)
	kept := make([]*node, 0, len(c.nodes))
	for _, n := range c.nodes {
		var here []int
		if err == nil {
			here, err = everyone([]*node{n})
		}
		if len(all) > 0 && len(here) == 0 {
			f.lacks(n, "the group's processes are not in "+n.dir.Path())
			err = errors.Join(err, n.dir.Close())
			continue
		}
		kept = append(kept, n)
	}
	if err == nil && len(kept) == 0 { // the last process has just ended
		err = &goneError{&FileError{Op: "open", Path: path, Err: syscall.ENOENT}}
	}
	if err != nil {
		for _, n := range kept {
			err = errors.Join(err, n.dir.Close())
		}
		return nil, err
	}
	return r.adopted(kept, f)
}

// AdoptProcess is [Root.Adopt] for the group of a process. The group may have
// another path in each v1 tree. A tree in which the process has no group of its
// own, but is at the top or shares a group above with others, is left alone.
//
// The caller makes sure that pid is still the process that he means after the
// call, by a pidfd. An [InvalidError] says that the process has no group of its
// own in any tree, or that the trees are mounted from below its group; a pid
// that no process has is an error that matches [syscall.ESRCH].
func (r *Root) AdoptProcess(pid int) (*Cgroup, error) {
	if pid <= 0 {
		return nil, &InvalidError{Field: "pid", Value: strconv.Itoa(pid), Reason: "not positive"}
	}
	for range 3 {
		before, err := r.memberships(strconv.Itoa(pid))
		if err != nil {
			return nil, err
		}
		c, err := r.adoptMember(pid, before)
		after, lookErr := r.memberships(strconv.Itoa(pid))
		if lookErr == nil {
			lookErr = r.lives(pid)
		}
		if lookErr == nil && slices.Equal(before, after) {
			return c, err
		}
		if c != nil {
			err = c.Close()
		}
		if lookErr != nil {
			return nil, errors.Join(lookErr, err)
		}
	}
	return nil, fmt.Errorf("process %d is being moved from group to group: %w", pid, syscall.EAGAIN)
}

// lives is nil unless the process is about to end: from then on the kernel says
// that it is at the tops of v1's trees.
func (r *Root) lives(pid int) error {
	if r.fake != nil {
		return nil // a fake's are there or not
	}
	st, err := linux.ReadStat(pid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Exiting {
		return fmt.Errorf("process %d has ended: %w", pid, syscall.ESRCH)
	}
	return err
}

// Readopt is [Root.Adopt] for a group whose [Cgroup.Places] were kept, by an
// earlier process or this one. The error matches [os.ErrNotExist] if the group
// that stood for it was removed, also if another has its path; other trees from
// which it was removed are left out.
func (r *Root) Readopt(places []Place) (*Cgroup, error) {
	f := &foreign{unified: "the container had no group in the unified tree when it was adopted"}
	for _, ctl := range r.Controllers().List() {
		f.why[ctl] = "the container had no group of its own there when it was adopted"
	}
	var nodes []*node
	fail := func(err error) (*Cgroup, error) {
		for _, n := range nodes {
			err = errors.Join(err, n.dir.Close())
		}
		return nil, err
	}
	for _, h := range r.hierarchies {
		i := slices.IndexFunc(places, func(p Place) bool { return p.Tree == h.name() })
		if i < 0 {
			continue
		}
		n, err := h.reopen(places[i])
		if errors.Is(err, fs.ErrNotExist) {
			f.without(h, "the container's group was removed from this tree")
			continue
		}
		if err != nil {
			return fail(err)
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("all of the group's directories were removed: %w", fs.ErrNotExist)
	}
	c, err := r.adopted(nodes, f)
	if err != nil {
		return nil, err
	}
	if stood := mainOf(places); c.main().in.name() != stood {
		return nil, errors.Join(fmt.Errorf("the group's directory in the %s tree was removed: %w", stood, fs.ErrNotExist), c.Close())
	}
	return c, nil
}

// mainOf is the tree whose directory stands for the group.
func mainOf(places []Place) string {
	if len(places) == 0 {
		return ""
	}
	for _, p := range places {
		if p.Tree == unifiedName {
			return p.Tree
		}
	}
	return places[0].Tree
}

func (h *hierarchy) reopen(p Place) (*node, error) {
	if err := checkPath(p.Path); err != nil {
		return nil, err
	}
	dir, err := h.dir.OpenDir(p.Path)
	if err != nil {
		return nil, err
	}
	id, err := dir.ID()
	if err == nil && ID(id) != p.ID {
		err = &FileError{Op: "open", Path: dir.Path(), Err: fmt.Errorf("it was removed and made again: %w", fs.ErrNotExist)}
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &node{in: h, dir: dir, path: p.Path}, nil
}

// adopted makes a foreign group of nodes, which it owns.
func (r *Root) adopted(nodes []*node, f *foreign) (*Cgroup, error) {
	c := &Cgroup{root: r, foreign: f, nodes: nodes}
	for _, n := range nodes {
		under := n.in.controllers
		if n.in.v2 {
			have, err := readControllers(n.dir, fileControllers)
			if err != nil {
				return nil, errors.Join(n.failed(err), c.Close())
			}
			for _, ctl := range (under &^ have).List() {
				f.why[ctl] = "the group above does not pass it on to " + n.dir.Path() + ", and enabling it there would change the neighbours too"
			}
			under = have
		}
		if n.in == r.unified {
			c.uni = n
		}
		c.put(n, under)
	}
	c.path = c.main().path
	if err := c.identify(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// lacks notes that the container has no part in n's tree.
func (f *foreign) lacks(n *node, reason string) { f.without(n.in, reason) }

func (f *foreign) without(h *hierarchy, reason string) {
	for _, ctl := range h.controllers.List() {
		f.why[ctl] = reason
	}
	if h.v2 {
		f.unified = reason
	}
}

// Adopted reports whether the group is somebody else's, taken charge of with
// [Root.Adopt] and the like.
func (c *Cgroup) Adopted() bool { return c.foreign != nil }

// Places are the group's directories, for [Root.Readopt].
func (c *Cgroup) Places() ([]Place, error) {
	var places []Place
	for _, n := range c.places() {
		id, err := n.dir.ID()
		if err != nil {
			return nil, err
		}
		places = append(places, Place{Tree: n.in.name(), Path: n.path, ID: ID(id)})
	}
	return places, nil
}

const unifiedName = "unified"

// name is what a [Place] calls the tree.
func (h *hierarchy) name() string {
	if h.v2 {
		return unifiedName
	}
	return h.controllers.String()
}

// notUnder says why an adopted group cannot be limited by ctl.
func (c *Cgroup) notUnder(ctl Controller) error {
	return &UnsupportedError{Feature: ctl.String() + " controller of an adopted group", Reason: c.foreign.why[ctl]}
}

// notOurs refuses what would end somebody else's processes.
func (c *Cgroup) notOurs(what string) error {
	return &InvalidError{Field: what, Value: c.path, Reason: "the group is adopted: its life is its maker's"}
}

// AllProcs lists the processes in the group and in the groups below it, in any
// of its trees: ascending, each once. Those of other pid namespaces are left
// out. The list is not of one moment.
func (c *Cgroup) AllProcs() ([]int, error) {
	pids, err := everyone(c.places())
	if n := c.main(); err == nil && len(pids) == 0 && n.gone() {
		err = &goneError{&FileError{Op: "open", Path: n.dir.Join(fileProcs), Err: os.ErrNotExist}}
	}
	return pids, c.main().failed(err)
}
