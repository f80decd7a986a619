// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLetReopen(t *testing.T) {
	mode := func(f *os.File) os.FileMode {
		info, err := f.Stat()
		require.NoError(t, err)
		return info.Mode().Perm()
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	LetReopen(int(w.Fd()))
	assert.Equal(t, os.FileMode(0o622), mode(r), "it may be written to, not read")
	LetReopen(int(r.Fd()))
	LetReopen(int(w.Fd()))
	assert.Equal(t, os.FileMode(0o666), mode(w))

	path := filepath.Join(t.TempDir(), "named")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	named, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer named.Close()
	LetReopen(int(named.Fd()))
	assert.Equal(t, os.FileMode(0o600), mode(named), "others find it by its path")
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	LetReopen(int(file.Fd()))
	GiveTerminal(int(file.Fd()), 5)
	assert.Equal(t, os.FileMode(0o600), mode(file))
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(file.Fd()), &st))
	assert.Equal(t, os.Geteuid(), int(st.Uid))
	LetReopen(-1)
	GiveTerminal(-1, 0)
}
