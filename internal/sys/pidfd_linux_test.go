// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A process has one number, also after all its pidfds were closed, and another
// process has another.
func TestPidfdInode(t *testing.T) {
	inode := func(pid int) uint64 {
		fd, err := PidfdOpen(pid)
		require.NoError(t, err)
		defer fd.Close()
		return PidfdInode(fd.Int())
	}
	own := inode(os.Getpid())
	assert.Equal(t, own, inode(os.Getpid()))
	if before, err := ReleaseBefore(6, 9); err == nil && before {
		assert.Zero(t, own)
		return
	}
	assert.NotZero(t, own)
	assert.NotEqual(t, own, inode(os.Getppid()))

	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(other)
	assert.Zero(t, PidfdInode(other), "not a pidfd")
	assert.Zero(t, PidfdInode(-1))
}
