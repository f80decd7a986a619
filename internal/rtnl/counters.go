// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"
	"errors"
)

// Counters are those of one queueing discipline or class.
type Counters struct {
	Bytes, Packets uint64 // sent
	Drops          uint32
	Overlimits     uint32 // how often something had to wait
	Backlog        uint32 // bytes that wait
	Waiting        uint32 // packets that wait
}

var errMessage = errors.New("a message of the kernel that makes no sense")

const (
	tcaStats2 = 7 // include/uapi/linux/rtnetlink.h

	statsBasic = 1 // include/uapi/linux/gen_stats.h
	statsQueue = 3
	statsPkt64 = 8

	typeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// parse reads the attributes behind a struct tcmsg.
func parse(b []byte) (c Counters, err error) {
	for len(b) > 0 {
		kind, value, rest, ok := attribute(b)
		if !ok {
			return Counters{}, errMessage
		}
		b = rest
		if kind != tcaStats2 {
			continue
		}
		for len(value) > 0 {
			kind, v, rest, ok := attribute(value)
			if !ok || !c.take(kind, v) {
				return Counters{}, errMessage
			}
			value = rest
		}
	}
	return c, nil
}

// take reads one of the statistics, and reports whether it is long enough.
func (c *Counters) take(kind uint16, v []byte) bool {
	at := func(i int) uint32 { return binary.NativeEndian.Uint32(v[i:]) }
	switch kind {
	case statsBasic: // struct gnet_stats_basic
		if len(v) < 12 {
			return false
		}
		c.Bytes, c.Packets = binary.NativeEndian.Uint64(v), max(c.Packets, uint64(at(8)))
	case statsPkt64: // Linux 5.5
		if len(v) < 8 {
			return false
		}
		c.Packets = binary.NativeEndian.Uint64(v)
	case statsQueue: // struct gnet_stats_queue
		if len(v) < 20 {
			return false
		}
		c.Waiting, c.Backlog, c.Drops, c.Overlimits = at(0), at(4), at(8), at(16)
	}
	return true
}

// attribute splits off the first struct nlattr.
func attribute(b []byte) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b))
	if size < 4 || size > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) & typeMask, b[4:size], b[min((size+3)&^3, len(b)):], true
}

// appendAttribute writes a struct nlattr, and value with its padding.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
