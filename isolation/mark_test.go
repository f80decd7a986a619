// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/compact"
)

// FuzzMark holds that a mark of any bytes is either none, or of a spec that is
// valid and the group's.
func FuzzMark(f *testing.F) {
	text, err := compact.Marshal(mark{Version: markVersion, Host: "us", Spec: full()})
	require.NoError(f, err)
	f.Add(string(text), "v")
	f.Add(`{"v":1,"host":"us"}`, "")
	f.Fuzz(func(t *testing.T, text, label string) {
		m, ok := parseMark(map[string]string{labelSandbox: text, labelPrefix + "app": label}, full().ID, "us")
		if !ok {
			require.Equal(t, mark{}, m)
			return
		}
		require.NoError(t, m.Spec.Validate())
		require.Equal(t, full().ID, m.Spec.ID)
	})
}

func TestMarkReadsBack(t *testing.T) {
	text, err := compact.Marshal(mark{Version: markVersion, Host: "us", Spec: full()})
	require.NoError(t, err)
	m, ok := parseMark(map[string]string{labelSandbox: string(text)}, full().ID, "us")
	require.True(t, ok)
	require.True(t, m.Spec.Equal(full()))
	for _, other := range [][2]string{{"other", "us"}, {full().ID, "them"}} {
		_, ok := parseMark(map[string]string{labelSandbox: string(text)}, other[0], other[1])
		require.False(t, ok)
	}
}
