// SPDX-License-Identifier: Apache-2.0

package checkpoint

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	d := open(t)
	d.Shared = true
	l, err := d.Create("a", line{N: 0})
	require.NoError(t, err)
	defer l.Close()
	for i := 1; i < 5; i++ {
		require.NoError(t, l.Append(line{N: i}))
	}
	// Two other processes have it open: one writes before it is replaced, the
	// other behind that.
	_, before, err := load(t, d, "a")
	require.NoError(t, err)
	_, after, err := load(t, d, "a")
	require.NoError(t, err)
	require.NoError(t, before.Append(line{N: 7}))
	require.NoError(t, l.Replace(line{N: 4, S: "all"}))
	require.NoError(t, after.Append(line{N: 8}))
	require.NoError(t, l.Append(line{N: 9}))

	got, _, err := load(t, d, "a")
	require.NoError(t, err)
	assert.Equal(t, []line{{N: 4, S: "all"}, {N: 7}, {N: 8}, {N: 9}}, got)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
	require.NoError(t, l.Remove())
	require.NoError(t, after.Append(line{N: 10}), "of a log that is gone")
	assert.NoFileExists(t, d.Path("a"))
}

// A crash in the middle of Replace leaves the old lines, and a file that goes with
// the log.
func TestReplaceCutOff(t *testing.T) {
	d := open(t)
	l, err := d.Create("a", line{N: 0})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.Path("a")+renewed, []byte(`{"n":`), 0o600))
	got, _, err := load(t, d, "a")
	require.NoError(t, err)
	assert.Equal(t, []line{{N: 0}}, got)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
	require.NoError(t, l.Replace(line{N: 1}))
	require.NoError(t, os.WriteFile(d.Path("a")+renewed, nil, 0o600))
	require.NoError(t, l.Remove())
	left, err := os.ReadDir(d.path)
	require.NoError(t, err)
	assert.Empty(t, left)

	// The next process does not know who was cut off.
	l, err = d.Create("a", line{N: 0})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(d.Path("a")+renewed, nil, 0o600))
	_, l, err = load(t, d, "a")
	require.NoError(t, err)
	require.NoError(t, l.Remove())
	left, err = os.ReadDir(d.path)
	require.NoError(t, err)
	assert.Empty(t, left)
}
