// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func sameFile(t *testing.T, a, b int) bool {
	var x, y unix.Stat_t
	require.NoError(t, unix.Fstat(a, &x))
	require.NoError(t, unix.Fstat(b, &y))
	return x.Dev == y.Dev && x.Ino == y.Ino && x.Rdev == y.Rdev
}

func TestLowFDs(t *testing.T) {
	l, err := NewLowFDs()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	high, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 500)
	require.NoError(t, err)

	same, done, err := l.Lend([]int{-1, 1, 2})
	require.NoError(t, err)
	assert.Equal(t, []int{-1, 1, 2}, same)
	done()

	before, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	lent, done, err := l.Lend([]int{high, -1, 2, high, high, high})
	require.NoError(t, err)
	assert.Equal(t, -1, lent[1])
	assert.Equal(t, 2, lent[2])
	for _, i := range []int{0, 3, 4, 5} {
		assert.Less(t, lent[i], 100)
		assert.True(t, sameFile(t, lent[i], high))
		flags, err := unix.FcntlInt(uintptr(lent[i]), unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.Equal(t, unix.FD_CLOEXEC, flags)
	}
	done()
	for _, i := range []int{0, 3, 4, 5} {
		assert.True(t, sameFile(t, lent[i], l.Null()), "the file is not held on to")
	}
	_, _, err = l.Lend([]int{high + 1})
	require.ErrorIs(t, err, unix.EBADF)

	// As many at once as there are callers, and each its own.
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				lent, done, err := l.Lend([]int{high, high, high})
				if !assert.NoError(t, err) {
					return
				}
				for _, fd := range lent {
					assert.True(t, sameFile(t, fd, high))
				}
				done()
			}
		})
	}
	group.Wait()

	require.NoError(t, unix.Close(high))
	require.NoError(t, w.Close())
	n, err := r.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err, "the writing end is closed everywhere")
	require.NoError(t, r.Close())
	require.NoError(t, l.Close())
	after, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	assert.Less(t, len(after), len(before))
}
