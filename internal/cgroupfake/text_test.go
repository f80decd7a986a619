// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseMem(t *testing.T) {
	for text, want := range map[string]struct {
		n    uint64
		rest string
	}{
		"": {0, ""}, "0": {0, ""}, "10": {10, ""}, "1K": {1 << 10, ""}, "1k": {1 << 10, ""}, "2M": {2 << 20, ""}, "0x10": {16, ""},
		"010": {8, ""}, "1MB": {1 << 20, "B"}, "-1": {0, "-1"}, "x": {0, "x"}, "18446744073709551616": {0, ""}, "0x": {0, "x"},
	} {
		n, rest := parseMem(text)
		assert.Equal(t, want.n, n, "%q", text)
		assert.Equal(t, want.rest, rest, "%q", text)
	}
}

// FuzzNumbers: what is read as a number reads the same written out, and an error
// comes without one.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"", "0", "1\n", " 1", "+5", "-5", "0x1f", "017", "08", "18446744073709551615", "18446744073709551616", "-9223372036854775808", "1_0", "++1", "+-1", "0x", "1\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseUint(s); err == nil {
			again, err := parseUint(strconv.FormatUint(n, 10))
			require.NoError(t, err)
			require.Equal(t, n, again)
		} else {
			require.Zero(t, n)
		}
		for _, bits := range []uint{32, 64} {
			n, err := parseInt(s, bits)
			if err != nil {
				require.Zero(t, n)
				continue
			}
			again, err := parseInt(strconv.FormatInt(n, 10), bits)
			require.NoError(t, err)
			require.Equal(t, n, again)
		}
	})
}

// FuzzList: a list that is read is written in the kernel's form, which reads the
// same and stays so.
func FuzzList(f *testing.F) {
	for _, s := range []string{"", "0", "0-3", "3,1", "0-1,2-3", "1-0", "0-", ",", "63-64", "99", "0-99", "x"} {
		f.Add(s, 70)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 1 || n > 4096 {
			return
		}
		list, err := parseList(s, n)
		if err != nil {
			require.Nil(t, list)
			return
		}
		again, err := parseList(list.String(), n)
		require.NoError(t, err)
		require.Equal(t, list, again)
		require.Equal(t, list.String(), again.String())
	})
}
