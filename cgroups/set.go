// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"slices"
	"strconv"
	"strings"
)

// maxSetMember bounds what a Set may hold, far above any kernel's NR_CPUS.
const maxSetMember = 1<<16 - 1

// A Set is a set of CPUs or of memory nodes. The zero Set leaves the knob as
// it is.
type Set struct {
	is   presence
	list string // canonical if the set is valid: "0-3,8"
}

// SetOf is the set of the given numbers.
func SetOf(members ...int) Set {
	m := slices.Clone(members)
	slices.Sort(m)
	if len(m) > 0 && (m[0] < 0 || m[len(m)-1] > maxSetMember) {
		// Not a list; Validate refuses it and shows it.
		s := make([]string, len(m))
		for i, n := range m {
			s[i] = strconv.Itoa(n)
		}
		return Set{set, strings.Join(s, ",")}
	}
	spans := make([]span, len(m))
	for i, n := range m {
		spans[i] = span{n, n}
	}
	return Set{set, formatSpans(spans)}
}

// DefaultSet returns the knob to the kernel's default: what the parent has.
func DefaultSet() Set { return Set{is: clearing} }

// ParseSet reads a list in the kernel's form, "0-3,8", in any order and with
// repetitions. The empty list is refused.
func ParseSet(list string) (Set, error) {
	spans, reason := parseSpans(list)
	if reason != "" {
		return Set{}, &InvalidError{Field: "set", Value: list, Reason: reason}
	}
	return Set{set, formatSpans(spans)}, nil
}

// IsZero reports whether the set is unset.
func (s Set) IsZero() bool { return s.is == unset }

// IsDefault reports whether the knob returns to the kernel's default.
func (s Set) IsDefault() bool { return s.is == clearing }

// String is the kernel's list form, "0-3,8", or "default", or nothing when
// unset or empty.
func (s Set) String() string {
	if s.is == set {
		return s.list
	}
	return knobString(s.is, 0)
}

// Len is the number of members.
func (s Set) Len() int {
	n := 0
	for _, r := range s.spans() {
		n += r.last - r.first + 1
	}
	return n
}

// Contains reports whether n is a member.
func (s Set) Contains(n int) bool {
	return slices.ContainsFunc(s.spans(), func(r span) bool { return r.first <= n && n <= r.last })
}

// Each calls yield for each member in ascending order, until it returns false.
// It is an iterator: for n := range s.Each.
func (s Set) Each(yield func(n int) bool) {
	for _, r := range s.spans() {
		for n := r.first; n <= r.last; n++ {
			if !yield(n) {
				return
			}
		}
	}
}

// MarshalText is [Set.String].
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [ParseSet] reads, "default" or nothing.
func (s *Set) UnmarshalText(text []byte) error {
	switch string(text) {
	case "":
		*s = Set{}
		return nil
	case wordDefault:
		*s = DefaultSet()
		return nil
	}
	v, err := ParseSet(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// span is a range of members, both ends included.
type span struct{ first, last int }

// spans is empty for a set without members and for an invalid one.
func (s Set) spans() []span {
	if s.is != set {
		return nil
	}
	spans, _ := parseSpans(s.list)
	return spans
}

// parseSpans reads a list; reason says why it is none.
func parseSpans(list string) (spans []span, reason string) {
	if list == "" {
		return nil, "empty"
	}
	for part := range strings.SplitSeq(list, ",") {
		s, reason := parseSpan(part)
		if reason != "" {
			return nil, reason
		}
		spans = append(spans, s)
	}
	return spans, ""
}

// checkSpans is parseSpans for who only wants to know whether it is a list.
func checkSpans(list string) (reason string) {
	if list == "" {
		return "empty"
	}
	for part := range strings.SplitSeq(list, ",") {
		if _, reason := parseSpan(part); reason != "" {
			return reason
		}
	}
	return ""
}

func parseSpan(part string) (s span, reason string) {
	lo, hi, ranged := strings.Cut(part, "-")
	if !ranged {
		hi = lo
	}
	first, err1 := strconv.ParseUint(lo, 10, 64)
	last, err2 := strconv.ParseUint(hi, 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return span{}, "not a list such as 0-3,8"
	case last > maxSetMember:
		return span{}, "a member above " + strconv.Itoa(maxSetMember)
	case first > last:
		return span{}, "a range that ends before it begins"
	}
	return span{int(first), int(last)}, ""
}

// formatSpans sorts and joins spans into the kernel's form.
func formatSpans(spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return a.first - b.first })
	var b []byte
	for i := 0; i < len(spans); {
		r := spans[i]
		for i++; i < len(spans) && spans[i].first <= r.last+1; i++ {
			r.last = max(r.last, spans[i].last)
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.first), 10)
		if r.last > r.first {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(r.last), 10)
		}
	}
	return string(b)
}
