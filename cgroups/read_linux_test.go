// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who asks for some controllers gets their knobs, and no others.
func TestResourcesOfSome(t *testing.T) {
	testutil.Require(t, testutil.Root)
	c := newGroup(t, openRoot(t), 0)
	_, err := c.Update(t.Context(), Resources{CPU: CPU{Weight: WeightOf(50)}, PIDs: PIDs{Max: Count(30)}})
	require.NoError(t, err)
	all, err := c.Resources()
	require.NoError(t, err)
	cpu, err := c.Resources(ControllerCPU)
	require.NoError(t, err)
	assert.Equal(t, Resources{CPU: all.CPU}, cpu)
	two, err := c.Resources(ControllerPIDs, ControllerCPU)
	require.NoError(t, err)
	assert.Equal(t, Resources{CPU: all.CPU, PIDs: PIDs{Max: Count(30)}}, two)
}

// BenchmarkResources reads all knobs, and those that a controller looks at each
// second.
func BenchmarkResources(b *testing.B) {
	testutil.Require(b, testutil.Root)
	c := newGroup(b, openRoot(b), 0)
	for name, of := range map[string][]Controller{"all": nil, "cpu and memory": {ControllerCPU, ControllerMemory}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Resources(of...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
