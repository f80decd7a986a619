// SPDX-License-Identifier: Apache-2.0

package checkpoint

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type line struct {
	N int    `json:"n"`
	S string `json:"s,omitempty"`
}

func load(t testing.TB, d *Dir, name string) ([]line, *Log, error) {
	t.Helper()
	var got []line
	l, err := d.Load(name, func(b []byte) error {
		var v line
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		got = append(got, v)
		return nil
	})
	if l != nil {
		t.Cleanup(func() { assert.NoError(t, l.Close()) })
	}
	return got, l, err
}

func open(t testing.TB) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	require.NoError(t, err)
	return d
}

func TestLinesComeBackInOrder(t *testing.T) {
	d := open(t)
	l, err := d.Create("a", line{N: 0, S: "line\nbreak"})
	require.NoError(t, err)
	for i := 1; i < 5; i++ {
		require.NoError(t, l.Append(line{N: i}))
	}
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "closing twice is nil")

	got, l, err := load(t, d, "a")
	require.NoError(t, err)
	require.Len(t, got, 5)
	assert.Equal(t, line{N: 0, S: "line\nbreak"}, got[0])
	assert.Equal(t, 4, got[4].N)

	require.NoError(t, l.Append(line{N: 5}))
	got, l, err = load(t, d, "a")
	require.NoError(t, err)
	assert.Len(t, got, 6)
	require.NoError(t, l.Remove())
	_, _, err = load(t, d, "a")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOneCreatorWins(t *testing.T) {
	d := open(t)
	l, err := d.Create("a", line{})
	require.NoError(t, err)
	defer l.Close()
	_, err = d.Create("a", line{})
	require.ErrorIs(t, err, fs.ErrExist)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names)
}

func TestNamesLeavesStrangersAlone(t *testing.T) {
	d := open(t)
	require.NoError(t, os.WriteFile(filepath.Join(d.path, "lock"), nil, 0o600))
	require.NoError(t, os.Mkdir(d.Path("dir"), 0o700))
	require.NoError(t, os.Symlink("/etc/passwd", d.Path("link")))
	names, err := d.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
	_, err = d.Load("link", func([]byte) error { return nil })
	assert.Error(t, err, "a link is not followed")
}

func TestTornLastLineIsIgnored(t *testing.T) {
	d := open(t)
	whole := `{"n":0}` + "\n" + `{"n":1}` + "\n"
	for cut := len(whole); cut > 0; cut-- {
		name := strconv.Itoa(cut)
		require.NoError(t, os.WriteFile(d.Path(name), []byte(whole[:cut]), 0o600))
		got, l, err := load(t, d, name)
		switch {
		case cut == len(whole):
			require.NoError(t, err)
			assert.Len(t, got, 2)
		case cut >= len(whole)/2:
			require.NoError(t, err)
			assert.Equal(t, []line{{N: 0}}, got)
			// What is appended next stands on a line of its own.
			require.NoError(t, l.Append(line{N: 7}))
			got, _, err = load(t, d, name)
			require.NoError(t, err)
			assert.Equal(t, []line{{N: 0}, {N: 7}}, got)
		default:
			require.ErrorIs(t, err, ErrCorrupt)
			require.NoError(t, l.Remove(), "a corrupt log can be removed")
		}
	}
}

func TestCorruptLineIsNamed(t *testing.T) {
	d := open(t)
	require.NoError(t, os.WriteFile(d.Path("a"), []byte("{\"n\":0}\nnonsense\n{\"n\":2}\n"), 0o600))
	_, _, err := load(t, d, "a")
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	assert.Equal(t, 2, corrupt.Line)
	assert.Equal(t, d.Path("a"), corrupt.Path)

	require.NoError(t, os.WriteFile(d.Path("b"), nil, 0o600))
	_, _, err = load(t, d, "b")
	require.ErrorIs(t, err, ErrCorrupt)
}

func TestFailedAppendLeavesNoTrace(t *testing.T) {
	d := open(t)
	l, err := d.Create("a", line{N: 0})
	require.NoError(t, err)
	defer l.Close()
	require.Error(t, l.Append(func() {}), "a value without a JSON form")
	got, _, err := load(t, d, "a")
	require.NoError(t, err)
	assert.Equal(t, []line{{N: 0}}, got)
}

// FuzzLoad holds that a log of any bytes gives either whole JSON lines in
// order, or a CorruptError.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("{\"n\":1}\n"))
	f.Add([]byte("{\"n\":1}\n{\"n\""))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := open(t)
		require.NoError(t, os.WriteFile(d.Path("a"), data, 0o600))
		lines := 0
		l, err := d.Load("a", func(b []byte) error {
			lines++
			assert.True(t, json.Valid(b))
			return nil
		})
		require.NotNil(t, l)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		} else {
			require.Positive(t, lines)
		}
		require.NoError(t, l.Close())
	})
}
