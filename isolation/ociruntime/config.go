// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caisson-run/caisson/isolation"
)

// Config says which runtime a driver uses, and where.
type Config struct {
	// Binary is the runtime, looked up in PATH without a slash: "runc", "crun".
	Binary string

	// Args go in front of the runtime's command.
	Args []string

	// Root is a directory of the driver's own, for bundles and the runtime's
	// state; made if it is missing. It belongs on a file system that is empty
	// after a reboot. Empty is /run/caisson-oci.
	Root string

	// Subreaper makes this process one, for good: it becomes the parent of
	// containers, and of every other process that descends from it and is left by
	// its own parent, and has to wait for those. See prctl(2),
	// PR_SET_CHILD_SUBREAPER.
	Subreaper bool
}

func (c Config) complete() Config {
	c.Root = cmp.Or(c.Root, "/run/caisson-oci")
	return c
}

// Validate reports what is wrong with the configuration, each part as an
// [isolation.InvalidError].
func (c Config) Validate() error {
	c = c.complete()
	switch {
	case c.Binary == "" || strings.IndexByte(c.Binary, 0) >= 0:
		return &isolation.InvalidError{Field: "binary", Value: c.Binary, Reason: "not the name of a program"}
	case !filepath.IsAbs(c.Root):
		return &isolation.InvalidError{Field: "root", Value: c.Root, Reason: "not an absolute path"}
	}
	return nil
}

// RuntimeError is a call of the runtime that failed: it is missing, said no, died,
// hung until the context ended, or answered nonsense.
type RuntimeError struct {
	Binary  string
	Command string // "create"
	Output  string // what it said, at most 2 KiB of it, printable
	Err     error  // exec.ErrNotFound, an *exec.ExitError, the context's cause, ...
}

// Error reads "runc create: exit status 1: container with given ID already exists".
func (e *RuntimeError) Error() string {
	s := fmt.Sprintf("%s %s: %v", filepath.Base(e.Binary), e.Command, e.Err)
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

// Unwrap gives the cause.
func (e *RuntimeError) Unwrap() error { return e.Err }
