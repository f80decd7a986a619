// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"testing"

	"github.com/containerd/cgroups/v3/cgroup2"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
)

// TestSharesAsContainerd compares every number of shares with another
// implementation of the formula.
func TestSharesAsContainerd(t *testing.T) {
	step := uint64(1)
	if testutil.Emulated() {
		step = 101
	}
	for shares := uint64(1); shares <= 1<<18+1; shares += step {
		want := cgroup2.ConvertCPUSharesToCgroupV2Value(shares)
		if got, _ := cgroups.WeightOfShares(shares).Value(); uint64(got) != want {
			t.Fatalf("%d shares are weight %d, and %d for containerd", shares, got, want)
		}
	}
}
