// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"path/filepath"
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

	top, _, ok := r.Where(ControllerIO)
	require.True(t, ok)
	qos := filepath.Join(top, "io.cost.qos")
	require.NoError(t, os.WriteFile(qos, []byte(disk.String()+" enable=1"), 0))
	defer func() { require.NoError(t, os.WriteFile(qos, []byte(disk.String()+" enable=0"), 0)) }()
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
