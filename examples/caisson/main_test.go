// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
)

// asCommand makes the test binary be the command that it tests.
const asCommand = "CAISSON_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
