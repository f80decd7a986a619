// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"fmt"
	"iter"
	"strings"
)

// Kind is what a namespace isolates. The zero Kind is none.
type Kind uint8

// The kinds, in the order in which [Kinds] lists them. namespaces(7).
const (
	User    Kind = iota + 1 // ids and capabilities; Linux 3.8
	PID                     // process ids; Linux 2.6.24
	Mount                   // the file tree; Linux 2.4.19
	Network                 // devices, addresses, ports; Linux 2.6.29
	IPC                     // System V IPC, POSIX message queues; Linux 2.6.30
	UTS                     // host name; Linux 2.6.19
	Cgroup                  // root of the visible cgroups; Linux 4.6
	Time                    // boot and monotonic clocks; Linux 5.6
)

// kinds has the name that /proc/PID/ns uses, the CLONE_NEW flag (ABI, the same
// on every architecture), and the release.
var kinds = [...]struct {
	name  string
	flag  uint32
	since string
}{
	User:    {"user", 0x10000000, "Linux 3.8"},
	PID:     {"pid", 0x20000000, "Linux 2.6.24"},
	Mount:   {"mnt", 0x00020000, "Linux 2.4.19"},
	Network: {"net", 0x40000000, "Linux 2.6.29"},
	IPC:     {"ipc", 0x08000000, "Linux 2.6.30"},
	UTS:     {"uts", 0x04000000, "Linux 2.6.19"},
	Cgroup:  {"cgroup", 0x02000000, "Linux 4.6"},
	Time:    {"time", 0x00000080, "Linux 5.6"},
}

func (k Kind) valid() bool { return 0 < k && int(k) < len(kinds) }

// String returns the kernel's name, as in /proc/PID/ns: "user", "pid", "mnt",
// "net", "ipc", "uts", "cgroup" or "time".
func (k Kind) String() string {
	if !k.valid() {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kinds[k].name
}

// Flag returns the CLONE_NEW flag of clone(2), setns(2) and unshare(2), or 0 if
// there is no such kind.
func (k Kind) Flag() uint32 {
	if !k.valid() {
		return 0
	}
	return kinds[k].flag
}

// ParseKind is the inverse of [Kind.String]. It knows no other spellings; the
// error matches [ErrInvalid].
func ParseKind(name string) (Kind, error) {
	for k := User; k.valid(); k++ {
		if kinds[k].name == name {
			return k, nil
		}
	}
	return 0, &InvalidError{Field: "namespace kind", Value: name, Reason: "none of " + AllKinds.String()}
}

func kindOfFlag(flag uint32) Kind {
	for k := User; k.valid(); k++ {
		if kinds[k].flag == flag {
			return k
		}
	}
	return 0
}

// MarshalText returns the kernel's name. The error matches [ErrInvalid].
func (k Kind) MarshalText() ([]byte, error) {
	if !k.valid() {
		return nil, &InvalidError{Field: "namespace kind", Value: k.String(), Reason: "no such kind"}
	}
	return []byte(k.String()), nil
}

// UnmarshalText is [ParseKind].
func (k *Kind) UnmarshalText(text []byte) error {
	parsed, err := ParseKind(string(text))
	if err == nil {
		*k = parsed
	}
	return err
}

// Kinds is a set of kinds. The zero value is empty.
type Kinds uint16

// AllKinds has every kind that this package knows.
const AllKinds Kinds = 1<<User | 1<<PID | 1<<Mount | 1<<Network | 1<<IPC | 1<<UTS | 1<<Cgroup | 1<<Time

// KindsOf makes a set. Values that are no kind are left out.
func KindsOf(list ...Kind) Kinds {
	var s Kinds
	for _, k := range list {
		s |= 1 << k
	}
	return s & AllKinds
}

// Has reports whether the set contains k.
func (s Kinds) Has(k Kind) bool { return k.valid() && s>>k&1 == 1 }

// With returns the set with the kinds of other added.
func (s Kinds) With(other Kinds) Kinds { return s | other }

// Without returns the set with the kinds of other removed.
func (s Kinds) Without(other Kinds) Kinds { return s &^ other }

// All yields the kinds of the set in a fixed order, user first.
func (s Kinds) All() iter.Seq[Kind] {
	return func(yield func(Kind) bool) {
		for k := User; k.valid(); k++ {
			if s.Has(k) && !yield(k) {
				return
			}
		}
	}
}

// Flags returns the CLONE_NEW flags of the set.
func (s Kinds) Flags() uint32 {
	var flags uint32
	for k := range s.All() {
		flags |= k.Flag()
	}
	return flags
}

// String returns the kernel's names separated by commas, "" for the empty set.
func (s Kinds) String() string {
	var names []string
	for k := range s.All() {
		names = append(names, k.String())
	}
	return strings.Join(names, ",")
}

// ParseKinds is the inverse of [Kinds.String]; order does not matter. The error
// matches [ErrInvalid].
func ParseKinds(text string) (Kinds, error) {
	if text == "" {
		return 0, nil
	}
	var s Kinds
	for name := range strings.SplitSeq(text, ",") {
		k, err := ParseKind(name)
		if err != nil {
			return 0, err
		}
		s |= KindsOf(k)
	}
	return s, nil
}

// MarshalText is [Kinds.String].
func (s Kinds) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseKinds].
func (s *Kinds) UnmarshalText(text []byte) error {
	parsed, err := ParseKinds(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}
