// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const snmp = `Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 7
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 4 3 0 0 2 18446744073709551615 812 17 0 1 0
Udp: InDatagrams NoPorts
Udp: 3 0
`

func TestParseTCP(t *testing.T) {
	st, err := parseTCP([]byte(snmp))
	require.NoError(t, err)
	assert.Equal(t, TCPStats{Received: 1<<64 - 1, Sent: 812, Retransmitted: 17}, st)
	for name, text := range map[string]string{
		"empty":       "",
		"one line":    "Tcp: InSegs OutSegs RetransSegs\n",
		"cut off":     "Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2 3",
		"too few":     "Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2\n",
		"a name less": "Tcp: InSegs OutSegs\nTcp: 1 2\n",
		"no number":   "Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2 -3\n",
		"too large":   "Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2 18446744073709551616\n",
	} {
		st, err := parseTCP([]byte(text))
		require.ErrorIs(t, err, errSNMP, name)
		assert.Zero(t, st)
	}
}

func FuzzParseTCP(f *testing.F) {
	f.Add([]byte(snmp))
	f.Add([]byte("Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2 3\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseTCP(b)
		if err != nil {
			require.Zero(t, st)
			return
		}
		for _, n := range []uint64{st.Received, st.Sent, st.Retransmitted} {
			if n > 0 {
				require.True(t, strings.Contains(string(b), fmt.Sprint(n)), "%d is not from there", n)
			}
		}
		again, err := parseTCP(fmt.Appendf(nil, "Tcp: InSegs OutSegs RetransSegs\nTcp: %d %d %d\n", st.Received, st.Sent, st.Retransmitted))
		require.NoError(t, err)
		require.Equal(t, st, again)
	})
}
