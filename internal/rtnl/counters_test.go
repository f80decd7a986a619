// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// message is what the kernel sends of c.
func message(c Counters) []byte {
	le := binary.NativeEndian
	basic := le.AppendUint32(le.AppendUint64(nil, c.Bytes), uint32(c.Packets))
	var queue []byte
	for _, n := range []uint32{c.Waiting, c.Backlog, c.Drops, 0, c.Overlimits} {
		queue = le.AppendUint32(queue, n)
	}
	stats := appendAttribute(appendAttribute(appendAttribute(nil, statsBasic, basic), statsPkt64, le.AppendUint64(nil, c.Packets)), statsQueue, queue)
	return appendAttribute(appendAttribute(nil, 1, []byte("tbf\x00")), tcaStats2|0x8000, stats)
}

func TestParse(t *testing.T) {
	want := Counters{Bytes: 1 << 40, Packets: 1 << 33, Drops: 3, Overlimits: 4, Backlog: 5, Waiting: 6}
	b := message(want)
	got, err := parse(b)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for cut := 1; cut < len(b); cut++ {
		if got, err := parse(b[:cut]); err != nil {
			assert.Zero(t, got)
		} else {
			assert.LessOrEqual(t, cut, 8, "only in front of the statistics")
		}
	}
	got, err = parse(nil)
	require.NoError(t, err)
	assert.Zero(t, got)
}

func FuzzParse(f *testing.F) {
	f.Add(message(Counters{Bytes: 1, Packets: 2, Drops: 3, Overlimits: 4, Backlog: 5, Waiting: 6}))
	f.Add([]byte{4, 0, 7, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parse(b)
		if err != nil {
			require.Zero(t, c)
			return
		}
		again, err := parse(message(c))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
