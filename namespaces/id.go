// SPDX-License-Identifier: Apache-2.0

package namespaces

import "strconv"

// ID identifies a namespace: two IDs are equal if and only if they are of the
// same namespace, as long as somebody holds it. The kernel may give the number
// of a namespace that is gone to a new one.
type ID struct {
	Kind Kind   `json:"kind"`
	Dev  uint64 `json:"dev"` // the device of the kernel's nsfs
	Ino  uint64 `json:"ino"`
}

// String returns what readlink(2) says of the files in /proc/PID/ns:
// "net:[4026531840]".
func (id ID) String() string {
	return id.Kind.String() + ":[" + strconv.FormatUint(id.Ino, 10) + "]"
}

// IsZero reports whether id is no namespace's.
func (id ID) IsZero() bool { return id == ID{} }
