// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// plainResources is marshalled by encoding/json itself.
type plainResources Resources

// onlyNames are the fields that say what an entry is about, and set nothing.
var onlyNames = []string{".IO.Devices[0].Device", ".HugeTLB[0].PageSize", ".RDMA[0].Device", ".Misc[0].Name"}

// What Resources writes is what its tags say, for every knob, and comes back.
func TestResourcesMarshalJSON(t *testing.T) {
	for name, r := range testutil.Filled[Resources]("7", "on", "root", "0-1", "7ms/10ms", "7ms", "8:1", "all", "idle") {
		want, err := json.Marshal(plainResources(r))
		require.NoError(t, err, name)
		got, err := r.MarshalJSON()
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
		var back Resources
		require.NoError(t, json.Unmarshal(got, &back), name)
		require.True(t, back.Equal(r), name)
		require.Equal(t, slices.Contains(onlyNames, name), r.IsZero(), name)
	}
	got, err := Resources{}.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, "{}", string(got))
}
