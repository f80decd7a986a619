// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"fmt"
	"slices"
)

// Revert takes back what an update did, in all its groups, write by write, last
// one first: for a caller that changes something besides the groups, and failed
// at that. What others changed in the same files since is overwritten.
//
// It goes on past a failure and says what could not be taken back. Of a group
// that was removed there is nothing to take back. Results that were stored and
// read again cannot be reverted; that is an [InvalidError].
func (r Result) Revert() error {
	changes := slices.Clone(r.Changes)
	var groups []*Cgroup
	for i := range changes {
		c := changes[i].of
		if c == nil {
			return &InvalidError{Field: "result", Value: changes[i].Path, Reason: "not from an update by this process"}
		}
		if !slices.Contains(groups, c) {
			groups = append(groups, c)
		}
	}
	slices.SortFunc(groups, (*Cgroup).compare)
	t := &transaction{trees: make([]groupTree, len(groups))}
	for i, c := range groups {
		t.trees[i].open(c)
	}
	defer t.end()
	if err := t.lock(context.Background()); err != nil {
		return err
	}
	for i := range changes {
		changes[i].in = &t.trees[slices.Index(groups, changes[i].of)]
	}
	if _, _, err := undo(changes, len(changes)); err != nil {
		return fmt.Errorf("revert: %w", err)
	}
	return nil
}
