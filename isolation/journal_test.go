// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzJournal holds that whatever a crash has left of a journal, it is opened, the
// next entry is behind all whole ones, and reading it ends with that.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("{\"seq\":3,\"id\":\"a\"}\n{\"seq\":4"))
	f.Add([]byte("nonsense\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(root, journalName), data, 0o600))
		j, err := openJournal(root, 1<<20, false)
		require.NoError(t, err)
		j.add(JournalEntry{ID: "last", Event: "create"})
		require.NoError(t, j.close())
		lines := 0
		for range readJournal(root) {
			lines++
		}
		require.LessOrEqual(t, lines, bytes.Count(data, []byte("\n"))+1)
		text, err := os.ReadFile(filepath.Join(root, journalName))
		require.NoError(t, err)
		whole := data[:bytes.LastIndexByte(data, '\n')+1]
		require.True(t, bytes.HasPrefix(text, whole))
		require.Equal(t, 1, bytes.Count(text[len(whole):], []byte("\n")))
		require.Contains(t, string(text[len(whole):]), `"id":"last"`)
	})
}
