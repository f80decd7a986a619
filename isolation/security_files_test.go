// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an older kernel does not hold is named, and an error where it has to be held.
func TestFilesLack(t *testing.T) {
	s := Security{Files: []FileRule{{Path: "/", Access: FileRead}}}
	for version, n := range map[int]int{1: 3, 2: 2, 3: 1, 4: 1, 5: 0, 9: 0} {
		s.Landlock = Default
		lacks, err := s.filesLack(version)
		require.NoError(t, err)
		assert.Len(t, lacks, n, version)
		s.Landlock = On
		_, err = s.filesLack(version)
		assert.Equal(t, n > 0, err != nil, version)
	}
	_, err := s.filesLack(0)
	require.ErrorIs(t, err, ErrNotSupported)
	_, err = Security{}.filesLack(0)
	require.NoError(t, err)
	require.NotEmpty(t, Security{Files: s.Files, Landlock: Off}.validateFiles())
}

// FuzzFileAccess holds that whatever is read is written the same, in its own order.
func FuzzFileAccess(f *testing.F) {
	for _, s := range []string{"", "r", "rwx", "xr", "rr", "R", "rw-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a FileAccess
		if err := a.UnmarshalText([]byte(text)); err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, a)
			return
		}
		require.Len(t, text, len(a.String()))
		var again FileAccess
		require.NoError(t, again.UnmarshalText([]byte(a.String())))
		require.Equal(t, a, again)
	})
}
