// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"

	"github.com/caisson-run/caisson/internal/parse"
)

// TCPStats counts the segments of all TCP connections of a network namespace since
// it was made.
type TCPStats struct {
	Received      uint64 `json:"received"`
	Sent          uint64 `json:"sent"`          // without those that were sent again
	Retransmitted uint64 `json:"retransmitted"` // sent once more, since they seemed lost
}

var errSNMP = errors.New("not what /proc/net/snmp reads like")

// parseTCP finds the counters in the contents of /proc/net/snmp: a line of names, and
// below it one of numbers. It does not allocate.
func parseTCP(b []byte) (st TCPStats, err error) {
	prefix := []byte("Tcp: ")
	var names []byte
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		b = rest
		line, ours := bytes.CutPrefix(line, prefix)
		switch {
		case !ours || !whole:
		case names == nil:
			names = line
		default:
			return pairTCP(names, line)
		}
	}
	return TCPStats{}, errSNMP
}

func pairTCP(names, numbers []byte) (st TCPStats, err error) {
	found := 0
	for len(names) > 0 {
		var name, number []byte
		name, names, _ = bytes.Cut(names, []byte{' '})
		number, numbers, _ = bytes.Cut(numbers, []byte{' '})
		var to *uint64
		switch string(name) {
		case "InSegs":
			to = &st.Received
		case "OutSegs":
			to = &st.Sent
		case "RetransSegs":
			to = &st.Retransmitted
		default:
			continue // MaxConn is negative
		}
		n, ok := parse.Uint(number)
		if !ok {
			return TCPStats{}, errSNMP
		}
		*to = n
		found++
	}
	if found != 3 {
		return TCPStats{}, errSNMP
	}
	return st, nil
}
