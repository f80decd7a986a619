// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/internal/wire"
)

// No field is left behind, also none that is added later.
func TestMessage(t *testing.T) {
	for name, m := range testutil.Filled[message]() {
		c := wire.Writer()
		m.walk(c)
		data, fds, err := c.Written()
		require.NoError(t, err, name)
		got, err := parse(data, fds)
		require.NoError(t, err, name)
		if m.Spec == nil {
			m.Spec = []byte{}
		}
		assert.Equal(t, m, *got, name)
	}
}

// What makes sense is within its bounds, and is the same once more.
func FuzzParse(f *testing.F) {
	for _, m := range []message{{FD: -1}, {Op: opReply, ID: "x", Entries: []Entry{{ID: "x"}}, Failure: &failure{Text: "x"}, FD: 0, Files: []int{0, 1}}} {
		c := wire.Writer()
		m.walk(c)
		data, _, _ := c.Written()
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, []int{0, 1, 2})
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMalformed)
			require.Nil(t, m)
			return
		}
		for _, fd := range append(m.Files, m.FD) {
			require.True(t, fd >= -1 && fd <= 2)
		}
		if m.Failure != nil {
			_ = m.Failure.error()
		}
		c := wire.Writer()
		m.walk(c)
		again, fds, err := c.Written()
		require.NoError(t, err)
		same, err := parse(again, fds)
		require.NoError(t, err)
		require.Equal(t, m, same)
	})
}

func FuzzValidID(f *testing.F) {
	f.Add("web-1")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, id string) {
		if validID(id) {
			assert.NotContains(t, id, "/")
			assert.NotContains(t, id, "\x00")
			assert.NotEqual(t, '.', rune(id[0]))
			assert.LessOrEqual(t, len(id), maxID)
		}
	})
}
