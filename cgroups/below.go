// SPDX-License-Identifier: Apache-2.0

package cgroups

import "slices"

// Below lists the names of the groups directly below this one, in any of its
// trees, sorted. The list is not of one moment.
func (c *Cgroup) Below() ([]string, error) {
	var all []string
	for _, n := range c.places() {
		names, err := n.dir.Dirs()
		if err != nil {
			return nil, n.failed(err)
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
