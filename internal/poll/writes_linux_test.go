// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func FuzzInotify(f *testing.F) {
	event := make([]byte, unix.SizeofInotifyEvent+4)
	event[0], event[12] = 1, 4 // descriptor 1, four bytes of name
	copy(event[unix.SizeofInotifyEvent:], "ab")
	f.Add(event)
	f.Add(event[:7])
	f.Add(append(event, event...))
	f.Fuzz(func(t *testing.T, buf []byte) {
		bytes := 0
		eachInotify(buf, func(_ int32, _ uint32, name string) {
			require.NotContains(t, name, "\x00")
			bytes += unix.SizeofInotifyEvent + len(name)
		})
		require.LessOrEqual(t, bytes, len(buf))
	})
}

func TestWrites(t *testing.T) {
	testutil.CheckLeaks(t)
	w, err := NewWrites()
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(file, []byte("1"), 0o600))
	var first, second []string
	add := func(to *[]string) *Write {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		one, err := w.Add(fd, func(name string) { *to = append(*to, name) })
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		return one
	}
	one, two := add(&first), add(&second)
	w.Read()
	assert.Empty(t, first)
	_, err = os.ReadFile(file)
	require.NoError(t, err)
	w.Read()
	assert.Empty(t, first, "reading is no write")

	write := func() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString("2")
		require.NoError(t, err)
		require.NoError(t, f.Close())
		w.Read()
	}
	write()
	assert.Equal(t, []string{"a"}, first)
	assert.Equal(t, []string{"a"}, second)
	w.Remove(one)
	w.Remove(one)
	w.Remove(nil)
	write()
	assert.Len(t, first, 1)
	assert.Len(t, second, 2, "the other one still hears of it")

	overflow := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(overflow[4:], unix.IN_Q_OVERFLOW)
	eachInotify(overflow, func(wd int32, mask uint32, name string) {
		for _, fn := range w.concerned(wd, mask, name, nil) {
			fn()
		}
	})
	assert.Equal(t, "", second[2], "lost events concern everybody")

	require.NoError(t, os.RemoveAll(dir))
	w.Read()
	assert.Empty(t, w.dirs, "the end of a directory ends its watch")
	w.Remove(two)
	_, err = w.Add(-1, nil)
	require.Error(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	w.Read()
}
