// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
)

// Revert takes back what an Update of this group did, write by write, last one
// first: for a caller that changes something besides the group, and failed at
// that. What others changed in the same files since is overwritten.
//
// It goes on past a failure, and joins the errors of what it could not take
// back.
func (c *Cgroup) Revert(done Result) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &groupTree{c: c, update: true}
	defer t.close()
	var errs []error
	for _, change := range slices.Backward(done.Changes) {
		if err := undo(t, change); err != nil {
			errs = append(errs, fmt.Errorf("revert of cgroup %s: %w", c.path, err))
		}
	}
	return errors.Join(errs...)
}
