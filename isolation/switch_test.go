// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Records of every release read the same: a position that is the default is in none.
func TestSwitchInRecords(t *testing.T) {
	for text, want := range map[string]Security{
		`{}`:                               {},
		`{"seccomp":"off","keyring":"on"}`: {Seccomp: Off, Keyring: On},
		`{"landlock":"on"}`:                {Landlock: On},
	} {
		var got Security
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		assert.Equal(t, want, got)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		assert.JSONEq(t, text, string(b))
	}
}
