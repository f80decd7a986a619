// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stuckFile is a directory with a file that takes no write until somebody reads
// from pipe, whatever signals come.
func stuckFile(t *testing.T) (n *node, pipe *os.File) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, maxFile), 0o600))
	fd, err := syscall.Open(filepath.Join(dir, maxFile), syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	pipe = os.NewFile(uintptr(fd), maxFile)
	t.Cleanup(func() { require.NoError(t, pipe.Close()) })
	for err == nil {
		_, err = syscall.Write(fd, make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.EAGAIN)
	d, err := kernfs.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return &node{in: &hierarchy{v2: true}, dir: d}, pipe
}

// TestSlowWriteIsOne has several callers write to a file that is stuck: one
// write is inside the kernel, the others wait, and all leave with their
// contexts.
func TestSlowWriteIsOne(t *testing.T) {
	testutil.CheckLeaks(t)
	n, pipe := stuckFile(t)
	var s slowWrites
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { first <- s.write(ctx, n, maxFile, "1", 0) }()
	inside := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.last)
	}
	for inside() == 0 {
		runtime.Gosched()
	}
	for range 20 {
		soon, stop := context.WithTimeout(t.Context(), time.Millisecond)
		err := s.write(soon, n, maxFile, "2", 0)
		require.ErrorIs(t, err, ErrBlocked)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, `write "2" to `+n.dir.Join(maxFile)+": still inside the kernel: waiting for an earlier write")
		stop()
	}
	require.Equal(t, 1, inside())
	require.Empty(t, first)

	// Who waits long enough gets his turn.
	second := make(chan error, 1)
	go func() { second <- s.write(t.Context(), n, maxFile, "3", 0) }()
	cancel()
	err := <-first
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, inside())
	_, err = pipe.Read(make([]byte, 8192))
	require.NoError(t, err)
	require.NoError(t, <-second)
}

// TestSlowWriteEnds is what Remove does first.
func TestSlowWriteEnds(t *testing.T) {
	testutil.CheckLeaks(t)
	n, pipe := stuckFile(t)
	var s slowWrites
	require.NoError(t, s.end(t.Context()))
	done := make(chan error, 1)
	// A write that is interrupted before it begins does not block.
	for err := error(nil); err == nil; {
		go func() { done <- s.write(context.Background(), n, maxFile, "1", 0) }()
		soon, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		<-soon.Done()
		stop()
		if err = s.end(soon); err == nil {
			require.ErrorIs(t, <-done, syscall.EINTR)
			continue
		}
		require.ErrorIs(t, err, ErrBlocked)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	_, err := pipe.Read(make([]byte, 8192))
	require.NoError(t, err)
	require.NoError(t, s.end(t.Context()))
	if err := <-done; !errors.Is(err, syscall.EINTR) { // as above, if it was that late
		require.NoError(t, err)
	}
}

// TestSlowWriteReclaim has the context end while the kernel reclaims: the call
// returns soon, and what it says is what holds.
func TestSlowWriteReclaim(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerMemory)
	c := newGroup(t, r, ControllersOf(ControllerMemory))
	const mib = 1 << 20
	_, err := c.Update(t.Context(), Resources{Memory: Memory{Max: Bytes(512 * mib)}})
	require.NoError(t, err)
	b := newBusy(t, c, 2*mib, 0, 64*mib, "cold")
	for _, policy := range []Shrink{Gradual, Force} {
		for _, after := range []time.Duration{300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond} {
			b.pages(t) // the cache is full again
			before := knobState(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			start := time.Now()
			_, err := c.UpdateWith(ctx, Resources{Memory: Memory{Max: Bytes(16 * mib)}}, UpdateConfig{Shrink: policy})
			took := time.Since(start)
			cancel()
			assert.Less(t, took, testutil.Patience(time.Second))
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			// Emulated, the kernel may need longer to see the signal than the
			// caller waits; the next update waits for it.
			if !errors.Is(err, ErrBlocked) || !testutil.Emulated() {
				if err != nil {
					require.NotErrorIs(t, err, ErrBlocked)
					require.Equal(t, before, knobState(t, c))
				}
				for _, n := range c.places() {
					require.Empty(t, n.slow.interrupt())
				}
			}
			_, err = c.Update(t.Context(), Resources{Memory: Memory{Max: Bytes(512 * mib)}})
			require.NoError(t, err)
		}
	}
	require.Zero(t, kills(t, c))
	require.NoError(t, b.Process.Kill())
	require.Error(t, b.Wait())
}
