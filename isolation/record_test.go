// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"os"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func records(t *testing.T) *checkpoint.Dir {
	t.Helper()
	d, err := checkpoint.Open(t.TempDir())
	require.NoError(t, err)
	return d
}

func TestRecordAddsUp(t *testing.T) {
	d := records(t)
	r := newRecord(full(), "boot", time.Now())
	require.ErrorIs(t, r.save(1), ErrState, "nothing is kept before the intent is")
	require.NoError(t, r.create(d))
	require.NoError(t, r.save("first"))
	require.NoError(t, r.add(entry{Phase: phaseCreated}))
	want := cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(1 << 20)}}
	require.NoError(t, r.add(entry{Update: &want}))

	again, err := loadRecord(d, "web-1")
	require.NoError(t, err)
	assert.NotNil(t, again.cutOff(), "an update was begun")
	assert.True(t, again.current().Equal(full()), "and did not end")
	require.NoError(t, again.close())

	after := full().Resources.Merge(want)
	require.NoError(t, r.add(entry{Updated: &after}))
	require.NoError(t, r.save("second"))
	require.NoError(t, r.close())

	again, err = loadRecord(d, "web-1")
	require.NoError(t, err)
	assert.Nil(t, again.cutOff())
	assert.Equal(t, phaseCreated, again.at())
	assert.True(t, again.asked().Equal(full()))
	assert.Equal(t, cgroups.Bytes(1<<20), again.current().Resources.Memory.Max)
	assert.Equal(t, "boot", again.boot)
	assert.JSONEq(t, `"second"`, string(again.saved()))
	require.NoError(t, again.remove())
}

// Unknown versions, and lines that make no sense, are refused (fault 19).
func TestRecordRefusesWhatItDoesNotKnow(t *testing.T) {
	d := records(t)
	for name, text := range map[string]string{
		"version":  `{"v":99,"boot":"b","spec":{"id":"version","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z"}`,
		"nospec":   `{"v":1,"boot":"b","at":"2026-01-01T00:00:00Z"}`,
		"noboot":   `{"v":1,"spec":{"id":"noboot","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z"}`,
		"other":    `{"v":1,"boot":"b","spec":{"id":"somebody","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z"}`,
		"hostile":  `{"v":1,"boot":"b","spec":{"id":"../../etc","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z"}`,
		"number":   `1`,
		"nonsense": `{`,
		"empty":    ``,
	} {
		require.NoError(t, os.WriteFile(d.Path(name), []byte(text+"\n"), 0o600))
		r, err := loadRecord(d, name)
		assert.True(t, IsCorrupt(err), "%s: %v", name, err)
		require.NotNil(t, r, "it can be removed")
		require.NoError(t, r.close())
	}
}

// FuzzLoadRecord holds that a log of any bytes is either a record whose spec is
// valid and names the log, or corrupt; and that it is never half of both.
func FuzzLoadRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"boot":"b","spec":{"id":"a","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z"}` + "\n"))
	f.Add([]byte(`{"v":1}` + "\n" + `{"phase":"created"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := records(t)
		require.NoError(t, os.WriteFile(d.Path("a"), data, 0o600))
		r, err := loadRecord(d, "a")
		require.NotNil(t, r)
		if err != nil {
			require.True(t, IsCorrupt(err))
		} else {
			require.NoError(t, r.current().Validate())
			require.Equal(t, "a", r.first.ID)
			require.NotEmpty(t, r.boot)
		}
		require.NoError(t, r.close())
	})
}
