// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fullPipe is a file that a write blocks in until somebody reads.
func fullPipe(t *testing.T) (d *Dir, pipe *os.File) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, unix.Mkfifo(dir+"/limit", 0o600))
	fd, err := unix.Open(dir+"/limit", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	pipe = os.NewFile(uintptr(fd), "limit")
	t.Cleanup(func() { require.NoError(t, pipe.Close()) })
	for buf := make([]byte, 4096); err == nil; {
		_, err = unix.Write(fd, buf)
	}
	require.ErrorIs(t, err, unix.EAGAIN)
	return hold(t, dir), pipe
}

func TestSlowWrite(t *testing.T) {
	testutil.CheckLeaks(t)
	d, pipe := fullPipe(t)
	w, err := d.StartWrite("limit", "1", 0)
	require.NoError(t, err)
	for !w.sleeps(t) {
		time.Sleep(time.Millisecond)
	}
	_, err = pipe.Read(make([]byte, 8192))
	require.NoError(t, err)
	over, err := w.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, over)
	w.Interrupt() // too late, and of no effect
	over, err = w.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, over)

	_, err = d.StartWrite("nothing", "1", 0)
	require.ErrorIs(t, err, os.ErrNotExist)
	w, err = d.StartWrite("limit", "", unix.O_NONBLOCK)
	require.NoError(t, err)
	over, err = w.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, over)
}

// A write that the kernel does not give up is left to itself: after a signal it
// goes on with a pipe as if nothing had been.
func TestSlowWriteLeft(t *testing.T) {
	testutil.CheckLeaks(t)
	d, pipe := fullPipe(t)
	w, err := d.StartWrite("limit", "1", 0)
	require.NoError(t, err)
	for !w.sleeps(t) {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	over, err := w.Wait(ctx)
	require.False(t, over)
	require.ErrorIs(t, err, context.Canceled)
	assert.Less(t, time.Since(start), testutil.Patience(2*time.Second))
	_, err = pipe.Read(make([]byte, 8192))
	require.NoError(t, err)
	over, err = w.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, over)
}

// sleeps reports whether the thread waits inside the kernel.
func (w *SlowWrite) sleeps(t *testing.T) bool {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tid == 0 {
		return false
	}
	stat, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(w.tid) + "/stat")
	require.NoError(t, err)
	return strings.Contains(string(stat), ") S ")
}
