// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/caisson-run/caisson/internal/compact"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// plainEntry and plainState are marshalled by encoding/json itself.
type (
	plainEntry entry
	plainState nativeState
)

// The lines of a record say what the tags say, and no field is forgotten.
func TestRecordJSON(t *testing.T) {
	testutil.Require(t, testutil.Real)
	texts := []string{"7", "on", "root", "0-1", "7ms/10ms", "7ms", "8:1", "all", "idle", "host", "memory",
		"10.0.0.1/24", "10.0.0.1", "02:00:00:00:00:01", "1mbit", "tcp", "best-effort", "raw", "rwx"}
	for name, e := range testutil.Filled[entry](texts...) {
		want, err := json.Marshal(plainEntry(e))
		require.NoError(t, err, name)
		got, err := compact.Marshal(e)
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
	}
	for name, s := range testutil.Filled[nativeState]() {
		want, err := json.Marshal(plainState(s))
		require.NoError(t, err, name)
		got, err := compact.Marshal(s)
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
	}
}

// Root.IsZero does not forget a field either.
func TestRootIsZero(t *testing.T) {
	require.True(t, Root{}.IsZero())
	for name, r := range testutil.Filled[Root]() {
		require.Equal(t, reflect.DeepEqual(r, Root{}), r.IsZero(), name)
	}
	require.False(t, Root{Masked: []string{}}.IsZero(), "an empty list is none, and not the default")
}
