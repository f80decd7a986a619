// SPDX-License-Identifier: Apache-2.0

package life

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is in the list of groups was written down whole.
func TestTreesForgetATornLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "groups")
	for text, want := range map[string][]string{
		"": nil, "/a": nil, "/a\n": {"/a"}, "/a\n/a/b\n/a/b/c": {"/a", "/a/b"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		trees, err := OpenTrees(file)
		require.NoError(t, err)
		assert.Equal(t, want, trees.made, "%q", text)
	}
	gone, err := OpenTrees(filepath.Join(t.TempDir(), "groups"))
	require.NoError(t, err)
	assert.Empty(t, gone.made)
}
