// SPDX-License-Identifier: Apache-2.0

package cgroups

// FD is the descriptor of the group's directory in the unified tree, or, without
// one, in its first tree. It is the Cgroup's: valid until Close, -1 after, not to
// be closed.
func (c *Cgroup) FD() int { return c.main().dir.FD() }
