// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// hierarchy is one tree of cgroups: a mounted one, or the detached cgroup2
// mount of a Legacy root.
type hierarchy struct {
	v2          bool
	controllers Controllers // those whose files are in this tree
	dir         *kernfs.Dir // the tree's top
	root        string      // which directory of the hierarchy the top is, as /proc/PID/cgroup names it; empty if unknown
	detached    bool        // mounted by us, without a path
	flat        bool        // v1 memory, before Linux 5.11: a new group's limit does not hold its children's
}

// Root is where a machine's hierarchies are. It is safe for concurrent use.
type Root struct {
	mode        Mode
	hierarchies []*hierarchy               // v1 trees first, the unified tree last
	unified     *hierarchy                 // nil if this machine cannot have one
	where       [numControllers]*hierarchy // nil: the controller is in no tree
	noUnified   error                      // why unified is nil
	scratch     scratch                    // what measuring reads into
	updates     sync.Pool                  // of transactions of one group, to be used again
	budget      budget                     // of descriptors
	pageSizes   pageSizes
	pressure    machinePressure
	fake        kernfs.FakeMachine // nil: the kernel's machine
}

// node is a group's directory in one hierarchy.
type node struct {
	in      *hierarchy
	dir     *kernfs.Dir
	path    string       // relative to the tree's top
	created atomic.Bool  // by this value, or owned by it, so that Remove may remove it
	tasks   *kernfs.File // v1's tasks file, held for Join
	slow    slowWrites
}

// Cgroup is one group: one path in every hierarchy that it is in. It is safe
// for concurrent use.
type Cgroup struct {
	root *Root
	path string // "agent/web-1", relative to each tree's top; of an adopted group, that in the tree which stands for it
	id   ID

	foreign *foreign // nil unless the group was adopted

	// The places grow when a controller is enabled later, so they are read
	// through node, unified and places.
	layout sync.RWMutex
	nodes  []*node               // in the root's order
	at     [numControllers]*node // where each controller's files are; nil: the group is not under it
	uni    *node                 // in the unified tree; nil if there is none

	mu       sync.Mutex // guards which controllers the group is under
	updating turn       // serialises changes of knobs

	joining sync.Mutex // guards the nodes' tasks
	hunting sync.Mutex // one killer at a time without cgroup.kill

	stats held
	knobs knobFiles
}

// node is where ctl's files are in this group, or nil if the group is not under
// it.
func (c *Cgroup) node(ctl Controller) *node {
	c.layout.RLock()
	defer c.layout.RUnlock()
	return c.at[ctl]
}

// unified is the group's directory in the unified tree, or nil.
func (c *Cgroup) unified() *node {
	c.layout.RLock()
	defer c.layout.RUnlock()
	return c.uni
}

// places are the group's directories, in the root's order; not to be changed.
func (c *Cgroup) places() []*node {
	c.layout.RLock()
	defer c.layout.RUnlock()
	return c.nodes
}

// Path is the group's path, relative to the top of each hierarchy. A group that
// was adopted may have others in some; see [Cgroup.Places].
func (c *Cgroup) Path() string { return c.path }

// ID identifies a group for as long as it lives. Ino is the kernel's cgroup id
// and is not used again until the machine boots. Dev is the tree, for as long
// as it is mounted.
type ID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// ID identifies the group by its directory in the unified tree, or, without
// one, in its first tree.
func (c *Cgroup) ID() ID { return c.id }

func (c *Cgroup) identify() error {
	id, err := c.main().dir.ID()
	c.id = ID(id)
	return err
}

// main is the directory that stands for the group.
func (c *Cgroup) main() *node {
	c.layout.RLock()
	defer c.layout.RUnlock()
	if c.uni != nil {
		return c.uni
	}
	return c.nodes[0]
}

// Mode is the root's.
func (c *Cgroup) Mode() Mode { return c.root.mode }

// Controllers are those that the group is under.
func (c *Cgroup) Controllers() Controllers {
	c.layout.RLock()
	defer c.layout.RUnlock()
	var s Controllers
	for ctl, n := range c.at {
		if n != nil {
			s |= ControllersOf(Controller(ctl))
		}
	}
	return s
}

// Own says that the caller made the group, in an earlier process, and that
// [Cgroup.Remove] may remove it. It is for groups that were opened by the
// caller's own record; other groups belong to somebody else, and for adopted
// ones it does nothing.
func (c *Cgroup) Own() {
	if c.foreign != nil {
		return
	}
	for _, n := range c.places() {
		n.created.Store(true)
	}
}

// Close frees the descriptors. The group and its processes live on. Calls that
// run meanwhile end; later ones return [os.ErrClosed]. Closing twice is nil.
func (c *Cgroup) Close() error {
	for _, n := range c.places() {
		n.slow.interrupt()
	}
	errs := []error{c.CloseJoin(), c.stats.close(&c.root.budget), c.knobs.close(&c.root.budget)}
	for _, n := range c.places() {
		errs = append(errs, n.dir.Close())
	}
	return errors.Join(errs...)
}

// failed marks err, a failure below n, as [ErrGone] if n's directory was
// removed. If it was closed meanwhile nobody can say what it was: [os.ErrClosed].
func (n *node) failed(err error) error {
	if err == nil || errors.Is(err, ErrGone) || !kernfs.IsGone(err) {
		return err
	}
	gone, gerr := n.dir.Gone()
	switch {
	case errors.Is(gerr, os.ErrClosed):
		return &FileError{Op: "look for", Path: n.dir.Path(), Err: os.ErrClosed}
	case gerr == nil && gone:
		return &goneError{err}
	}
	return err
}

// gone reports whether the directory was removed.
func (n *node) gone() bool {
	gone, err := n.dir.Gone()
	return err == nil && gone
}
