// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// IDMap says that Count user or group ids of a user namespace, Inside and up,
// are the ids Outside and up of its parent namespace.
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

// String returns the line of /proc/PID/uid_map: "0 100000 65536".
func (m IDMap) String() string { return string(m.append(nil)) }

func (m IDMap) append(b []byte) []byte {
	for i, n := range [...]uint32{m.Inside, m.Outside, m.Count} {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}

// IDMaps is the contents of a /proc/PID/uid_map or gid_map. An empty map maps
// nobody.
type IDMaps []IDMap

// What the kernel takes. user_namespaces(7).
const (
	maxIDMaps   = 340  // lines, since Linux 4.15
	maxIDMapLen = 4096 // the whole map is one write of less than a page
)

// Validate applies the kernel's rules: 1 to 340 lines of together less than 4096
// bytes; no empty range; no range with the id 4294967295, which means "none"; no
// id twice, on either side. Whether the caller may map these ids is for the
// kernel to say. The error matches [ErrInvalid].
func (s IDMaps) Validate() error {
	if len(s) == 0 || len(s) > maxIDMaps {
		return &InvalidError{Field: "id map", Value: fmt.Sprintf("%d lines", len(s)),
			Reason: fmt.Sprintf("not 1 to %d", maxIDMaps)}
	}
	for i, m := range s {
		refuse := func(reason string) error {
			return &InvalidError{Field: "id map", Value: m.String(), Reason: reason}
		}
		if m.Count == 0 {
			return refuse("an empty range")
		}
		if end(m.Inside, m.Count) > math.MaxUint32 || end(m.Outside, m.Count) > math.MaxUint32 {
			return refuse("ends beyond 4294967294")
		}
		for _, o := range s[:i] {
			if overlap(m.Inside, m.Count, o.Inside, o.Count) {
				return refuse(fmt.Sprintf("shares ids inside with %q", o))
			}
			if overlap(m.Outside, m.Count, o.Outside, o.Count) {
				return refuse(fmt.Sprintf("shares ids outside with %q", o))
			}
		}
	}
	if n := len(s.String()); n >= maxIDMapLen {
		return &InvalidError{Field: "id map", Value: fmt.Sprintf("%d lines of %d bytes", len(s), n),
			Reason: fmt.Sprintf("not less than %d bytes", maxIDMapLen)}
	}
	return nil
}

func end(first, count uint32) uint64 { return uint64(first) + uint64(count) }

func overlap(a, aCount, b, bCount uint32) bool {
	return uint64(a) < end(b, bCount) && uint64(b) < end(a, aCount)
}

// String returns what is written to uid_map, one line each.
func (s IDMaps) String() string {
	var b []byte
	for _, m := range s {
		b = append(m.append(b), '\n')
	}
	return string(b)
}

// Outside returns the id in the parent namespace that inside stands for, and
// whether there is one.
func (s IDMaps) Outside(inside uint32) (uint32, bool) {
	for _, m := range s {
		if m.Inside <= inside && uint64(inside) < end(m.Inside, m.Count) {
			if m.Outside == math.MaxUint32 {
				break
			}
			return m.Outside + (inside - m.Inside), true
		}
	}
	return 0, false
}

// ParseIDMaps parses the contents of a uid_map or gid_map. An Outside of
// 4294967295 is what the kernel shows for ids that the reader's own namespace
// does not map. The error matches [ErrInvalid].
func ParseIDMaps(text string) (IDMaps, error) {
	var s IDMaps
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		var n [3]uint32
		if len(f) != len(n) {
			return nil, &InvalidError{Field: "id map", Value: line, Reason: "not three numbers"}
		}
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, &InvalidError{Field: "id map", Value: line, Reason: "not three 32-bit numbers"}
			}
			n[i] = uint32(v)
		}
		s = append(s, IDMap{Inside: n[0], Outside: n[1], Count: n[2]})
	}
	return s, nil
}
