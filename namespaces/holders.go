// SPDX-License-Identifier: Apache-2.0

package namespaces

import "strconv"

// Holder is something that keeps a namespace alive.
type Holder struct {
	How HolderKind `json:"how"`
	PID int        `json:"pid"` // the process that is in it, has the descriptor, or sees the pin

	// Path is the pin, as the process sees it, or the file in /proc that shows
	// the rest: "/proc/4711/fd/5".
	Path string `json:"path"`
}

// HolderKind says how a [Holder] holds.
type HolderKind string

// The kinds of holders.
const (
	Member     HolderKind = "member"     // a thread is in it
	Birth      HolderKind = "birth"      // a thread that is in another has its children born in it
	Descriptor HolderKind = "descriptor" // an open file
	Pinned     HolderKind = "pin"        // a mount, see [Handle.Pin]
)

// String is "pin /run/netns/web of process 1".
func (h Holder) String() string {
	return string(h.How) + " " + h.Path + " of process " + strconv.Itoa(h.PID)
}
