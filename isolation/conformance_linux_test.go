// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faultEnv is the fault of a test binary that is started for [TestConformance].
const faultEnv = "CAISSON_TEST_FAULT"

// TestConformance holds the suite to its purpose: the native driver, registered as
// a driver of others is, passes each part, and fails it with the fault that the part
// is there for.
func TestConformance(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	fault := os.Getenv(faultEnv)
	var parts []string
	isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver {
		parts = append(parts, path.Base(t.Name()))
		return isolation.FaultyDriver(t, at.Dir, at.Parent, fault)
	}, isolationtest.DriverOptions{})
	if fault != "" {
		return
	}
	slices.Sort(parts)
	parts = slices.Compact(parts)
	faults := isolation.Faults()
	slices.Sort(faults)
	require.Equal(t, parts, faults, "each part of the suite has a fault that it finds")

	var running sync.WaitGroup
	turn := make(chan struct{}, 4)
	for _, part := range parts {
		running.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			cmd := exec.Command(os.Args[0], "-test.run", "^TestConformance$/^"+part+"$", "-test.v")
			cmd.Env = append(os.Environ(), faultEnv+"="+part)
			out, err := cmd.CombinedOutput()
			assert.Error(t, err, "%s\n%s", part, out)
			assert.Regexp(t, regexp.MustCompile(`(?m)^ +--- FAIL: TestConformance/`+part+` `), string(out))
		})
	}
	running.Wait()
}
