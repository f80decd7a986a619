// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestIOWeight sets weights on a disk without and with io.cost.
func TestIOWeight(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Matrix, testutil.Cgroup2("io"))
	disk, err := ParseDevice(testutil.Scratch(t))
	require.NoError(t, err)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerIO))
	weights := Resources{IO: IO{Weight: WeightOf(200), Devices: []IODevice{{Device: disk, Weight: WeightOf(300)}}}}
	_, err = c.Update(t.Context(), weights)
	require.ErrorIs(t, err, ErrNotSupported)
	require.ErrorContains(t, err, "io.cost is not enabled")

	require.NoError(t, r.SetIOCost(IOCost{Device: disk, QoS: IOCostQoS{Enable: On}}))
	defer func() {
		auto := IOCost{Device: disk, QoS: IOCostQoS{Enable: Off, Control: CostAuto}, Model: IOCostModel{Control: CostAuto}}
		require.NoError(t, r.SetIOCost(auto))
	}()
	some := someCost
	some.Device = disk
	require.NoError(t, r.SetIOCost(some))
	all, err := r.IOCost()
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, CostUser, all[0].QoS.Control)
	assert.Equal(t, some.QoS.ReadLatency, all[0].QoS.ReadLatency)
	assert.Equal(t, some.Model.WriteRandOps, all[0].Model.WriteRandOps)
	require.NoError(t, r.SetIOCost(all[0]))
	err = r.SetIOCost(IOCost{Device: Device{4000, 1}, QoS: IOCostQoS{Enable: On}})
	require.ErrorIs(t, err, syscall.ENODEV)
	res, err := c.Update(t.Context(), weights)
	require.NoError(t, err)
	// The group's own weight is written for bfq too where that is loaded.
	require.GreaterOrEqual(t, len(res.Changes), 2)
	now, err := c.Resources()
	require.NoError(t, err)
	assert.Equal(t, weights.IO, now.IO)
	_, err = c.Update(t.Context(), Resources{IO: IO{Weight: DefaultWeight(), Devices: []IODevice{{Device: disk, Weight: DefaultWeight()}}}})
	require.NoError(t, err)
	now, err = c.Resources()
	require.NoError(t, err)
	assert.Equal(t, IO{Weight: WeightOf(100)}, now.IO)

	limits := IODevice{Device: disk, ReadBytes: Bytes(1 << 20), WriteBytes: Max(), ReadOps: Count(100), WriteOps: Max()}
	_, err = c.Update(t.Context(), Resources{IO: IO{Devices: []IODevice{limits}}})
	require.NoError(t, err)
	now, err = c.Resources()
	require.NoError(t, err)
	assert.Equal(t, []IODevice{limits}, now.IO.Devices)
	_, err = c.Update(t.Context(), Resources{IO: IO{Devices: []IODevice{{Device: disk, ReadBytes: Max(), ReadOps: Default()}}}})
	require.NoError(t, err)
	now, err = c.Resources()
	require.NoError(t, err)
	assert.Empty(t, now.IO.Devices)
}

// TestIOCostAbsent asks for io.cost where there is none: on v1, and below the
// top of the machine's hierarchy.
func TestIOCostAbsent(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	if _, err := r.IOCost(); err == nil {
		c := newGroup(t, r, ControllersOf(ControllerIO))
		top, _, _ := r.Where(ControllerIO)
		below, err := Open(top + "/" + c.Path())
		if err != nil {
			require.ErrorIs(t, err, ErrNotSupported) // not a mount point
			return
		}
		defer below.Close()
		r = below
	}
	_, err := r.IOCost()
	require.ErrorIs(t, err, ErrNotSupported)
	require.ErrorIs(t, r.SetIOCost(someCost), ErrNotSupported)
	t.Log(err)
}
