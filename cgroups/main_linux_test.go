// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
)

// children are the workloads that this test binary can be, see
// [testutil.Child]. Test files add theirs in an init function.
var children = map[string]func(args []string) int{}

func TestMain(m *testing.M) { testutil.Main(m, children) }
