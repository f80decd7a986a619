// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"sync/atomic"
	"syscall"
)

// budget bounds the descriptors that a root's groups keep open for speed alone,
// at half of what the process may have. Beyond it, files are opened for each use:
// slower, but without end an agent with many groups would have no descriptor
// left to remove one with.
type budget struct{ left atomic.Int64 }

func (b *budget) open() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		limit.Cur = 1024
	}
	b.left.Store(int64(min(limit.Cur, 1<<30) / 2))
}

// take reports whether n more may be kept open, and counts them if so.
func (b *budget) take(n int) bool {
	if b.left.Add(int64(-n)) >= 0 {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n int) { b.left.Add(int64(n)) }
