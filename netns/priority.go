// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
)

// Priority is how what a sandbox sends ranks against what others send, in the queues
// of links that they share: unset, the kernel's default, or the priority of each
// packet (SO_PRIORITY of socket(7)). The zero Priority is unset.
//
// What a priority does is up to the queue. tc-prio(8) and pfifo_fast, the kernel's
// default for hardware, have three bands: 6 is in the first, 0 in the second, 2 in the
// last, and each waits for those before it; fq has the same since Linux 6.7, by weights. A
// queue with classes, such as tc-htb(8), takes a packet whose priority is the handle of
// a class into that class. fq_codel, which many distributions choose, and noqueue do not
// look at it.
//
// The packet is not changed, so it counts on this machine only. It holds on a bridge,
// for a [Macvlan] or [IPVlan] on their parent, and where the machine forwards IPv6. Where it
// forwards IPv4, the kernel takes the priority from the packet's TOS, which the sandbox
// chooses, and a [Firewall] sets it again; without one, unless
// net.ipv4.ip_forward_update_priority is 0, that is lost for what comes from a
// bridge, and a routed interface with an IPv4 address is refused a priority.
type Priority struct {
	state uint8
	value uint32
}

const (
	priorityUnset uint8 = iota
	priorityDefault
	prioritySet
)

// maxBand is TC_PRIO_MAX of include/uapi/linux/pkt_sched.h.
const maxBand = 15

// DefaultPriority leaves the priority to the kernel: 0, but for IPv4 that the machine
// forwards.
func DefaultPriority() Priority { return Priority{state: priorityDefault} }

// PriorityOf is the priority n, 0 to 15. The kernel calls 2 bulk, 6 interactive and 7
// control (TC_PRIO_BULK and so on).
func PriorityOf(n uint8) Priority { return Priority{prioritySet, uint32(n)} }

// PriorityClass is the class of that handle in the queues that have it; the others
// treat it as some priority. Neither half is 0.
func PriorityClass(major, minor uint16) Priority {
	return Priority{prioritySet, uint32(major)<<16 | uint32(minor)}
}

// IsZero reports whether the priority is unset.
func (p Priority) IsZero() bool { return p.state == priorityUnset }

// Value is the number that packets get, and whether they get any.
func (p Priority) Value() (n uint32, ok bool) { return p.value, p.state == prioritySet }

// Validate wants 0 to 15, or the handle of a class. The error matches [ErrInvalid].
func (p Priority) Validate() error {
	major, minor := p.value>>16, p.value&0xffff
	if p.value <= maxBand || major != 0 && major != 0xffff && minor != 0 {
		return nil
	}
	return badPriority(p.String())
}

func badPriority(text string) error {
	return &namespaces.InvalidError{Field: "priority", Value: clip(text),
		Reason: `not 0 to 15, the handle of a class like "1:20", or "default"`}
}

// String reads "2", "1:20" with hexadecimal halves as tc(8) writes them, "default", or
// "" if unset: what [ParsePriority] reads.
func (p Priority) String() string {
	switch {
	case p.state == priorityUnset:
		return ""
	case p.state == priorityDefault:
		return "default"
	case p.value>>16 != 0:
		return fmt.Sprintf("%x:%x", p.value>>16, p.value&0xffff)
	}
	return strconv.FormatUint(uint64(p.value), 10)
}

// ParsePriority reads what [Priority.String] writes of a priority that is set. The
// error matches [ErrInvalid].
func ParsePriority(text string) (Priority, error) {
	if text == "default" {
		return DefaultPriority(), nil
	}
	var p Priority
	var err error
	if major, minor, class := strings.Cut(text, ":"); class {
		var high, low uint64
		if high, err = strconv.ParseUint(major, 16, 16); err == nil {
			low, err = strconv.ParseUint(minor, 16, 16)
		}
		if high == 0 {
			return Priority{}, badPriority(text)
		}
		p = PriorityClass(uint16(high), uint16(low))
	} else {
		var n uint64
		n, err = strconv.ParseUint(text, 10, 8)
		p = PriorityOf(uint8(n))
	}
	if err != nil || p.Validate() != nil {
		return Priority{}, badPriority(text)
	}
	return p, nil
}

// MarshalText is [Priority.String].
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is [ParsePriority]; empty is unset.
func (p *Priority) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Priority{}
		return nil
	}
	parsed, err := ParsePriority(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}
