// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"sync"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// hierarchy is one tree of cgroups: a mounted one, or the detached cgroup2
// mount of a Legacy root.
type hierarchy struct {
	v2          bool
	controllers Controllers // those whose files are in this tree
	dir         *kernfs.Dir // the tree's top
}

// Root is where a machine's hierarchies are. It is safe for concurrent use.
type Root struct {
	mode        Mode
	hierarchies []*hierarchy               // v1 trees first, the unified tree last
	unified     *hierarchy                 // nil if this machine cannot have one
	where       [numControllers]*hierarchy // nil: the controller is in no tree
}

// node is a group's directory in one hierarchy.
type node struct {
	in      *hierarchy
	dir     *kernfs.Dir
	created bool // by this value, so that Remove may remove it
}

// Cgroup is one group: one path in every hierarchy that it is in. It is safe
// for concurrent use.
type Cgroup struct {
	root  *Root
	path  string                // "agent/web-1", relative to each tree's top
	nodes []*node               // in the root's order
	at    [numControllers]*node // where each controller's files are; nil: the group is not under it
	uni   *node                 // in the unified tree; nil if there is none

	mu sync.Mutex // serialises changes to the group
}
