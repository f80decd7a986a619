// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPartition makes a group a partition and a member again, and tries what a
// partition cannot be.
func TestPartition(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("cpuset"))
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerCPUSet))
	update := func(s CPUSet) error {
		res, err := c.Update(t.Context(), Resources{CPUSet: s})
		t.Logf("%+v: %v %v", s, res.Changes, err)
		return err
	}
	before := knobState(t, c)
	require.Error(t, update(CPUSet{Partition: PartitionRoot}), "a partition needs CPUs of its own")
	require.Equal(t, before, knobState(t, c))

	require.NoError(t, update(CPUSet{CPUs: SetOf(1), Partition: PartitionRoot}))
	now, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, CPUSet{CPUs: SetOf(1), Mems: DefaultSet(), Partition: PartitionRoot}, now.CPUSet)

	before = knobState(t, c)
	require.Error(t, update(CPUSet{CPUs: SetOf(1000)}), "CPUs that the machine does not have")
	require.Equal(t, before, knobState(t, c))

	require.NoError(t, update(CPUSet{CPUs: DefaultSet(), Partition: PartitionMember}))
	now, err = c.Resources()
	require.NoError(t, err)
	assert.Equal(t, CPUSet{CPUs: DefaultSet(), Mems: DefaultSet(), Partition: PartitionMember}, now.CPUSet)

	before = knobState(t, c)
	if err := update(CPUSet{CPUs: SetOf(1), Partition: PartitionIsolated}); err != nil {
		require.Equal(t, before, knobState(t, c), "an older kernel has no isolated partitions")
		return
	}
	require.NoError(t, update(CPUSet{Partition: PartitionMember}))
}
