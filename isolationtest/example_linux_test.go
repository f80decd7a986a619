// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"testing"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
)

// A driver of one's own is held to the contract by one test, beside a TestMain as
// the package comment shows.
func ExampleDriver() {
	_ = func(t *testing.T) {
		isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver {
			var mine isolation.Driver // made with at.Dir and at.Parent
			return mine
		}, isolationtest.DriverOptions{
			Refused: map[string]func(*isolation.Spec){
				"terminal": func(s *isolation.Spec) { s.Process.Terminal = true },
			},
		})
	}
}
