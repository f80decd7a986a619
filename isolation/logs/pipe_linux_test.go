// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A workload that is far ahead waits: no line is dropped, and no more than the
// backlog is on the disk at any time.
func TestBlock(t *testing.T) {
	c := Config{Block: true, Backlog: 64 << 10, MaxSize: 64 << 20, Format: Raw}
	l, stdout, stderr := opened(t, keeper(t), c)
	line := []byte(strings.Repeat("y", 1023) + "\n")
	const lines = 8 << 10
	for n := range lines {
		_, err := stdout.Write(line)
		require.NoError(t, err)
		if n%256 == 0 {
			l.mu.Lock()
			info, err := l.streams[Stdout].Stat()
			require.NoError(t, err)
			assert.LessOrEqual(t, info.Size()-l.state.At[Stdout], c.Backlog)
			l.mu.Unlock()
		}
	}
	fmt.Fprintln(stderr, "bad")
	require.NoError(t, l.Sync())
	assert.Equal(t, Stats{Lines: lines + 1, Bytes: uint64(lines*len(line)) + 4}, l.Stats())
	fmt.Fprint(stdout, "no end")
	require.NoError(t, l.Finish())
	all := texts(t, l)
	assert.Equal(t, "stdout no end", all[len(all)-1])
	require.NoError(t, l.Err())
}

// While nobody keeps the log, a workload has a pipe to write to, and then waits; what
// is in there is taken over by the next keeper.
func TestBlockUnattended(t *testing.T) {
	k := keeper(t)
	c := Config{Block: true}
	l, stdout, _ := opened(t, k, c)
	require.NoError(t, l.Close())
	fd, err := syscall.Open(l.path(pipeName(Stdout)), syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	written := 0
	for err == nil {
		var n int
		if n, err = syscall.Write(fd, bytes.Repeat([]byte("0123456\n"), 512)); err == nil {
			written += n
		}
	}
	require.ErrorIs(t, err, syscall.EAGAIN, "who may not wait is told to")
	require.LessOrEqual(t, written, inPipe)
	info, err := os.Stat(l.path("stdout"))
	require.NoError(t, err)
	assert.Zero(t, info.Size())

	waiting := make(chan error, 1)
	go func() {
		_, err := stdout.WriteString("after\n")
		waiting <- err
	}()
	l, err = k.Open("web", c)
	require.NoError(t, err)
	require.NoError(t, <-waiting)
	require.NoError(t, l.Sync())
	all := texts(t, l)
	require.Len(t, all, written/8+1)
	assert.Equal(t, "stdout after", all[len(all)-1])
	require.NoError(t, l.Close())
	require.NoError(t, k.Remove("web"))
	assert.NoDirExists(t, l.path(""))
}

// On a full disk a workload that blocks waits too, and no line is lost.
func TestBlockFullDisk(t *testing.T) {
	testutil.Require(t, testutil.Root)
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("caisson-test", dir, "tmpfs", 0, "size=4m"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	k, err := OpenKeeper(filepath.Join(dir, "logs"))
	require.NoError(t, err)
	defer k.Close()
	l, stdout, _ := opened(t, k, Config{Block: true})
	fmt.Fprintln(stdout, "line 0")
	require.NoError(t, l.Sync())
	full, err := os.Create(filepath.Join(dir, "full"))
	require.NoError(t, err)
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	require.NoError(t, full.Close())
	const lines = 20000 // more than is free in the pages that there are
	done := make(chan error, 1)
	go func() {
		for n := 1; n < lines; n++ {
			if _, err := fmt.Fprintf(stdout, "line %d\n", n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for l.Err() == nil { // until there is no room
		_ = l.Sync()
	}
	require.ErrorIs(t, l.Err(), syscall.ENOSPC)
	require.NoError(t, os.Remove(full.Name()))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-t.Context().Done():
	}
	require.Eventually(t, func() bool { return l.Sync() == nil }, testutil.Patience(10e9), 1e6)
	got := texts(t, l)
	require.Len(t, got, lines)
	for i, text := range got {
		require.Equal(t, fmt.Sprintf("stdout line %d", i), text)
	}
	require.NoError(t, stdout.Close())
}

func TestBlockHasNoRate(t *testing.T) {
	require.ErrorIs(t, Config{Block: true, Rate: 1}.Validate(), ErrInvalid)
}
