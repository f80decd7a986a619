// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/runtimespec"
)

// fromBundle makes spec that of an OCI bundle, and tells of what is not in it.
func (a *app) fromBundle(spec *isolation.Spec) error {
	if !spec.Equal(isolation.Spec{ID: spec.ID, Resources: spec.Resources}) {
		return usagef("--bundle says what the sandbox is; it goes with limits only")
	}
	given := spec.Resources
	s, left, err := runtimespec.FromBundle(spec.ID, a.bundle)
	if err != nil {
		return err
	}
	for _, l := range left {
		fmt.Fprintf(a.stderr, "caisson: %s: not in force: %s\n", a.bundle, oneLine(fmt.Errorf("%s", l)))
	}
	if s.Process.Terminal {
		fmt.Fprintf(a.stderr, "caisson: %s: not in force: process.terminal: the program gets the caller's streams\n", a.bundle)
		s.Process.Terminal = false
	}
	s.Resources = s.Resources.Merge(given)
	*spec = s
	return nil
}
