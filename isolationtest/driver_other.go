// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package isolationtest

import (
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// Driver is the conformance suite on Linux, and a skip elsewhere.
func Driver(t *testing.T, open func(t testing.TB, at Place) isolation.Driver, opt DriverOptions) {
	t.Helper()
	testutil.Skip(t, testutil.Linux, "there are no drivers for this system")
}

// Workload is for Linux alone.
func Workload() (code int, ok bool) { return 0, false }
