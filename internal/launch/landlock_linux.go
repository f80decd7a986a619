// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Landlock is the version of Landlock's interface that the kernel has, asked
// once; 0 is none. Scopes came with 6 (Linux 6.12).
var Landlock = sync.OnceValue(func() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
})
