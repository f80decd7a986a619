// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"path/filepath"

	"github.com/caisson-run/caisson/isolation"
)

// Config says where a [Driver] keeps its containers.
type Config struct {
	// Root is the directory of libcontainer's state, one directory a container;
	// made if it is missing. It belongs on a file system that is empty after a
	// reboot, and is this driver's alone.
	Root string
}

// Validate refuses what [Open] would.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Root) || c.Root != filepath.Clean(c.Root) {
		return &isolation.InvalidError{Field: "root", Value: c.Root, Reason: "not a clean absolute path"}
	}
	return nil
}
