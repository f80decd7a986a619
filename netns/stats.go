// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
)

// LinkStats counts what a link received (Rx) and transmitted (Tx) since it was
// made.
type LinkStats struct {
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"` // by the kernel and, where it tells, by the hardware
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
}

var errDev = errors.New("not a line of /proc/net/dev")

// findStats looks for the line of a link in the contents of /proc/net/dev, and
// does not look at an incomplete last line. It does not allocate.
func findStats(b []byte, name string) (st LinkStats, found bool, err error) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			break
		}
		line := b[:end]
		b = b[end+1:]
		// The two lines of the head have no colon; a link's name cannot have one.
		colon := bytes.IndexByte(line, ':')
		if colon >= 0 && string(bytes.TrimLeft(line[:colon], " ")) == name {
			st, err = parseStats(line[colon+1:])
			return st, err == nil, err
		}
	}
	return LinkStats{}, false, nil
}

// parseStats parses the 16 numbers of dev_seq_printf_stats in
// net/core/net-procfs.c.
func parseStats(line []byte) (LinkStats, error) {
	var n [16]uint64
	for i := range n {
		line = bytes.TrimLeft(line, " ")
		digits := 0
		for digits < len(line) && '0' <= line[digits] && line[digits] <= '9' {
			v := n[i]*10 + uint64(line[digits]-'0')
			if n[i] > (1<<64-1)/10 || v < n[i]*10 {
				return LinkStats{}, errDev
			}
			n[i] = v
			digits++
		}
		if digits == 0 {
			return LinkStats{}, errDev
		}
		line = line[digits:]
	}
	if len(bytes.TrimLeft(line, " ")) > 0 {
		return LinkStats{}, errDev
	}
	return LinkStats{
		RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
		TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
	}, nil
}
