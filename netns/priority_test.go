// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPriorityText(t *testing.T) {
	for text, want := range map[string]Priority{
		"0": PriorityOf(0), "2": PriorityOf(2), "15": PriorityOf(15), "default": DefaultPriority(),
		"1:20": PriorityClass(1, 0x20), "ca15:fffd": PriorityClass(0xca15, 0xfffd),
	} {
		got, err := ParsePriority(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
		assert.Equal(t, text, got.String())
	}
	for _, bad := range []string{"", "16", "256", "-1", "0x2", "1:", ":1", "0:1", "1:0", "ffff:1", "10000:1", "1:10000", "1:2:3", "bulk", " 2"} {
		got, err := ParsePriority(bad)
		assert.ErrorIs(t, err, ErrInvalid, bad)
		assert.Zero(t, got)
	}
	for _, bad := range []Priority{PriorityOf(16), PriorityClass(1, 0), PriorityClass(0, 16)} {
		assert.ErrorIs(t, bad.Validate(), ErrInvalid, bad)
	}
	b := Bandwidth{Priority: PriorityOf(2)}
	assert.Equal(t, b, b.Merge(Bandwidth{}))
	assert.Equal(t, DefaultPriority(), b.Merge(Bandwidth{Priority: DefaultPriority()}).Priority)
	for _, b := range []Bandwidth{{}, {Priority: PriorityClass(1, 2)}, {Priority: DefaultPriority()}} {
		text, err := json.Marshal(b)
		require.NoError(t, err)
		var again Bandwidth
		require.NoError(t, json.Unmarshal(text, &again))
		assert.Equal(t, b, again, string(text))
	}
	moved := Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Physical, Parent: "up0", Bandwidth: b}}}
	assert.ErrorIs(t, moved.Validate(), ErrInvalid)
}

func FuzzParsePriority(f *testing.F) {
	for _, s := range []string{"6", "1:20", "default"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePriority(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, p)
			return
		}
		require.NoError(t, p.Validate())
		again, err := ParsePriority(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
