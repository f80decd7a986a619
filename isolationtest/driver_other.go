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

// Run makes experiments on Linux, and is a skip elsewhere.
func Run(t testing.TB, e Experiment) Report {
	t.Helper()
	testutil.Skip(t, testutil.Linux, "there are no sandboxes on this system")
	return Report{}
}

// Workload is for Linux alone.
func Workload() (code int, ok bool) { return 0, false }
