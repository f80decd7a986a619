// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFormat(t *testing.T) {
	at := time.Date(2016, 10, 6, 0, 17, 9, 669794202, time.UTC)
	l := Line{Time: at, Stream: Stderr, Text: []byte("a b")}
	assert.Equal(t, "2016-10-06T00:17:09.669794202Z stderr F a b\n", string(CRI.append(nil, l)))
	l.Partial = true
	assert.Equal(t, "2016-10-06T00:17:09.669794202Z stderr P a b\n", string(CRI.append(nil, l)))
	assert.Equal(t, "a b", string(Raw.append(nil, l)))
	for _, bad := range []string{"", "x", "2016-10-06T00:17:09Z", "2016-10-06T00:17:09Z stdin F x", "2016-10-06T00:17:09Z stdout Q x", "yesterday stdout F x"} {
		got, err := CRI.Parse([]byte(bad))
		assert.Error(t, err, bad)
		assert.Zero(t, got)
	}
}

// FuzzParse holds that what is accepted is the same again once it is written, and
// that cutting loses no byte.
func FuzzParse(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stderr F a b"))
	f.Add([]byte("a\nb\nc"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := CRI.Parse(text); err == nil && l.Time.Year() >= 0 {
			again, err := CRI.Parse(bytes.TrimSuffix(CRI.append(nil, l), []byte("\n")))
			require.NoError(t, err)
			require.True(t, l.Time.Equal(again.Time))
			l.Time, again.Time = time.Time{}, time.Time{}
			require.Equal(t, l, again)
		}
		var all []byte
		for rest := text; len(rest) > 0; {
			line, partial, n := cut(rest, true)
			require.Positive(t, n)
			require.LessOrEqual(t, len(line), longest)
			all = append(all, line...)
			if n > len(line) {
				require.False(t, partial)
				all = append(all, '\n')
			}
			rest = rest[n:]
		}
		require.Equal(t, string(text), string(all))
	})
}

// FuzzState holds that a state of any bytes is refused or reads back the same.
func FuzzState(f *testing.F) {
	whole, err := state{File: 3, Size: 9}.encode()
	require.NoError(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err != nil {
			require.Zero(t, s)
			return
		}
		again, err := s.encode()
		require.NoError(t, err)
		back, err := decodeState(again)
		require.NoError(t, err)
		require.Equal(t, s, back)
	})
}
