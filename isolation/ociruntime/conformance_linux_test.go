// SPDX-License-Identifier: Apache-2.0

package ociruntime_test

import (
	"testing"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
)

// suiteWorkload is what the suite has a sandbox do.
func suiteWorkload() (code int, ok bool) { return isolationtest.Workload() }

// Every driver is held to one contract, and so are these.
func TestConformance(t *testing.T) {
	for _, runtime := range here() {
		t.Run(runtime, func(t *testing.T) {
			need(t, runtime)
			root := image(t)
			isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver {
				return open(t, config(runtime, at.Dir))
			}, isolationtest.DriverOptions{
				Program: "/bin/test",
				Adapt:   func(t testing.TB, s *isolation.Spec) { in(t, root, s) },
				Refused: map[string]func(*isolation.Spec){
					"no root":   func(s *isolation.Spec) { s.Root = isolation.Root{} },
					"reaper":    func(s *isolation.Spec) { s.Process.Reaper = true },
					"terminal":  func(s *isolation.Spec) { s.Process.Terminal = true },
					"no volume": func(s *isolation.Spec) { s.Root.Volumes[0].Source = "/nowhere" },
				},
			})
		})
	}
}
