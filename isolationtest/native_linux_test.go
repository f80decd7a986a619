// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"os"
	"testing"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
)

func TestMain(m *testing.M) {
	if code, ok := isolationtest.Workload(); ok {
		os.Exit(code)
	}
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case gate:
			os.Exit(pass(os.Args[2:]))
		case feel, hold:
			os.Exit(locking(os.Args[1], os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func TestNative(t *testing.T) {
	isolationtest.Driver(t, func(testing.TB, isolationtest.Place) isolation.Driver { return nil }, isolationtest.DriverOptions{})
}
