// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"testing"

	"github.com/caisson-run/caisson/isolation"
)

// Place is what a driver may use in one part of the suite. It is the same for each
// driver of the part: they stand for an agent that was restarted.
type Place struct {
	// Dir is a directory for the driver alone, empty at first. What sandboxes
	// leave in it is a failure.
	Dir string

	// Parent is the host's Config.Parent: groups of sandboxes belong in there, by
	// the sandbox's id. A group elsewhere is not looked for.
	Parent string
}

// DriverOptions adapt the suite to a driver. The zero value is for one that runs
// programs on the machine's own files.
type DriverOptions struct {
	// Adapt gives a spec what the driver insists on, such as a root file system.
	// The suite's specs have an id, a process and sometimes resources. It has to
	// do the same for equal specs of one test.
	Adapt func(t testing.TB, spec *isolation.Spec)

	// Program is the path of this test binary inside of the sandbox; empty is
	// what it is outside.
	Program string

	// Refused are changes of a good spec after which Create has to fail, with
	// nothing left: one for each thing that the driver does not do, at best.
	Refused map[string]func(spec *isolation.Spec)

	// Vanish takes a running sandbox away without the driver's knowledge, so that
	// Check has to say that there is none. nil kills its processes and removes
	// the groups that its first process was in, if they are below Place.Parent.
	Vanish func(t testing.TB, box *isolation.Sandbox)
}
