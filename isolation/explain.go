// SPDX-License-Identifier: Apache-2.0

package isolation

import "github.com/caisson-run/caisson/cgroups"

// Explain says what the sandbox really gets of each resource, and whose limit
// that is: its own, that of a group above it, or the machine's. See
// [cgroups.Cgroup.Explain].
func (s *Sandbox) Explain() (cgroups.Explanation, error) {
	g := s.Cgroup()
	if g == nil {
		return cgroups.Explanation{}, wrap("explain", s.id, s.lacks("explain"))
	}
	e, err := g.Explain()
	return e, wrap("explain", s.id, err)
}
