// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package nofile

// rlimit is struct rlimit64.
type rlimit struct{ soft, hard uint64 }

var atStart = func() (l rlimit) {
	if getrlimit(&l) != 0 {
		return rlimit{}
	}
	return l
}()

// getrlimit returns zero or a negative errno.
//
//go:noescape
func getrlimit(l *rlimit) int

// Raised returns the limit that a child is to get, if the one of this process is
// still what the Go runtime made of it: a soft limit of one less than the hard one,
// which is chosen as nobody else's (go.dev/issue/66797). What the program has set
// since then is meant for its children too.
func Raised() (soft, hard uint64, yes bool) {
	var now rlimit
	if atStart.hard == 0 || atStart.soft >= atStart.hard-1 || getrlimit(&now) != 0 || now != (rlimit{atStart.hard - 1, atStart.hard}) {
		return 0, 0, false
	}
	return atStart.soft, atStart.hard, true
}
