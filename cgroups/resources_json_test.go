// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// plainResources is marshalled by encoding/json itself.
type plainResources Resources

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
	}
	got, err := Resources{}.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, "{}", string(got))
}
