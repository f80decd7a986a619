// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// TestExplainParent: what the agent's own group has is all that there is.
func TestExplainParent(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	h := open(t)
	if !h.Root().Controllers().Has(cgroups.ControllerPIDs) {
		testutil.Skip(t, testutil.Cgroup2("pids"), "no hierarchy has it")
	}
	_, err := h.Parent().Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(40)}})
	require.NoError(t, err)
	s := create(t, h, isolation.Spec{
		ID: "web", Process: isolation.Process{Args: []string{"/bin/true"}},
		Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}},
	})
	e, err := s.Explain()
	require.NoError(t, err)
	b, ok := e.Of("pids.max")
	require.True(t, ok)
	assert.Equal(t, h.Parent().Path(), b.By.Group, "%s", b)
	assert.Equal(t, uint64(10), b.Excess())
}
