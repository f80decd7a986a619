// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func lines(n int, first, step uint32) IDMaps {
	var s IDMaps
	for i := range uint32(n) {
		s = append(s, IDMap{Inside: first + i*step, Outside: first + i*step, Count: 1})
	}
	return s
}

func TestIDMapsValidate(t *testing.T) {
	const most = math.MaxUint32
	for _, ok := range []IDMaps{
		{{0, 100000, 65536}},
		{{0, 0, most}}, // the initial user namespace
		{{most - 1, most - 1, 1}},
		{{0, 10, 10}, {10, 0, 10}},
		{{5, 5, 1}, {4, 4, 1}, {6, 6, 1}},
		lines(340, 0, 1),
		lines(166, most-1000, 2),
	} {
		assert.NoError(t, ok.Validate(), ok)
	}
	for want, bad := range map[string]IDMaps{
		`id map "0 lines": not 1 to 340`:                             {},
		`id map "341 lines": not 1 to 340`:                           lines(341, 0, 1),
		`id map "0 0 0": an empty range`:                             {{0, 0, 0}},
		`id map "4294967295 0 1": ends beyond 4294967294`:            {{most, 0, 1}},
		`id map "0 4294967295 1": ends beyond 4294967294`:            {{0, most, 1}},
		`id map "1 0 4294967295": ends beyond 4294967294`:            {{1, 0, most}},
		`id map "0 1 4294967295": ends beyond 4294967294`:            {{0, 1, most}},
		`id map "4294967290 0 6": ends beyond 4294967294`:            {{most - 5, 0, 6}},
		`id map "9 50 1": shares ids inside with "0 0 10"`:           {{0, 0, 10}, {9, 50, 1}},
		`id map "0 50 100": shares ids inside with "9 9 1"`:          {{9, 9, 1}, {0, 50, 100}},
		`id map "50 9 1": shares ids outside with "0 0 10"`:          {{0, 0, 10}, {20, 20, 1}, {50, 9, 1}},
		`id map "200 lines of 4800 bytes": not less than 4096 bytes`: lines(200, most-1000, 1),
	} {
		err := bad.Validate()
		assert.EqualError(t, err, want)
		assert.ErrorIs(t, err, ErrInvalid)
	}
}

func TestIDMapsOnly(t *testing.T) {
	assert.True(t, IDMaps{{0, 1000, 1}}.Only(1000))
	for _, s := range []IDMaps{nil, {{0, 1000, 2}}, {{0, 1001, 1}}, {{0, 1000, 1}, {1, 1001, 1}}} {
		assert.False(t, s.Only(1000), "%v", s)
	}
}

func TestIDMapsOutside(t *testing.T) {
	s := IDMaps{{0, 1000, 1}, {1, 100000, 65535}, {math.MaxUint32 - 1, 7, 1}, {70000, math.MaxUint32, 5}}
	for inside, want := range map[uint32]uint32{0: 1000, 1: 100000, 65535: 165534, math.MaxUint32 - 1: 7} {
		got, ok := s.Outside(inside)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	for _, inside := range []uint32{65536, 69999, 70000, 70001, math.MaxUint32} {
		got, ok := s.Outside(inside)
		assert.False(t, ok, inside)
		assert.Zero(t, got)
	}
}

func TestParseIDMaps(t *testing.T) {
	got, err := ParseIDMaps("         0       1000          1\n         1     100000      65536\n")
	require.NoError(t, err)
	assert.Equal(t, IDMaps{{0, 1000, 1}, {1, 100000, 65536}}, got)
	assert.Equal(t, "0 1000 1\n1 100000 65536\n", got.String())
	got, err = ParseIDMaps("")
	require.NoError(t, err)
	assert.Empty(t, got)

	for _, bad := range []string{"\n", "0", "0 0", "0 0 1 2", "a 0 1", "-1 0 1", "0 0 4294967296", "0 0 0x10", "0 0 1\nrest"} {
		got, err := ParseIDMaps(bad)
		assert.ErrorIs(t, err, ErrInvalid, "%q", bad)
		assert.Nil(t, got)
	}
}

func FuzzParseIDMaps(f *testing.F) {
	f.Add("         0          0 4294967295\n")
	f.Add("0 1000 1\n1 100000 65536")
	f.Add("0 4294967295 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseIDMaps(text)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Nil(t, s)
			return
		}
		again, err := ParseIDMaps(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
		for _, m := range s {
			if out, ok := s.Outside(m.Inside); ok && s.Validate() == nil {
				require.Equal(t, m.Outside, out)
			}
		}
	})
}

// FuzzValidate compares with the kernel's own way of putting the rules:
// map_write and mappings_overlap of kernel/user_namespace.c.
func FuzzValidate(f *testing.F) {
	f.Add(uint32(0), uint32(0), uint32(10), uint32(10), uint32(10), uint32(10))
	f.Add(uint32(0), uint32(0), uint32(math.MaxUint32), uint32(1), uint32(0), uint32(1))
	f.Add(uint32(5), uint32(math.MaxUint32), uint32(1), uint32(0), uint32(5), uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g uint32) {
		s := IDMaps{{a, b, c}, {d, e, g}}
		bad := false
		for i, m := range s {
			bad = bad || m.Inside == math.MaxUint32 || m.Outside == math.MaxUint32 ||
				m.Inside+m.Count <= m.Inside || m.Outside+m.Count <= m.Outside
			for _, p := range s[:i] {
				bad = bad || p.Inside <= m.Inside+m.Count-1 && p.Inside+p.Count-1 >= m.Inside ||
					p.Outside <= m.Outside+m.Count-1 && p.Outside+p.Count-1 >= m.Outside
			}
		}
		require.Equal(t, bad, s.Validate() != nil, fmt.Sprint(s))
	})
}
