// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"slices"
	"strings"
)

// FD is the descriptor of the group's directory in the unified tree, or, without
// one, in its first tree. It is the Cgroup's: valid until Close, -1 after, not to
// be closed.
func (c *Cgroup) FD() int { return c.main().dir.FD() }

// FDs are descriptors of the group's directories that have the files of some
// controllers, on v2 one and on v1 often one for each. As with FD, they are the
// Cgroup's.
func (c *Cgroup) FDs(under Controllers) []int {
	c.layout.RLock()
	defer c.layout.RUnlock()
	var fds []int
	for _, n := range c.nodes {
		if slices.ContainsFunc(under.List(), func(ctl Controller) bool { return c.at[ctl] == n }) {
			fds = append(fds, n.dir.FD())
		}
	}
	return fds
}

// IsKnob reports whether a file of a group is one that limits are written to: not
// one of those with which groups, their processes and notifications are managed,
// and none that is only read.
func IsKnob(file string) bool {
	prefix, name, _ := strings.Cut(file, ".")
	if ctl, known := parseController(prefix); !known || ctl == ControllerFreezer {
		return false
	}
	for _, other := range []string{"events", "events.local", "pressure", "pressure_level", "reclaim", "force_empty", "peak", "failcnt", "event_control"} {
		if name == other || strings.HasSuffix(name, "."+other) || strings.HasSuffix(name, "_"+other) {
			return false
		}
	}
	return !readOnly(file)
}
