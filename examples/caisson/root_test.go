// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/isolation"
)

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]isolation.Volume{
		"/a:/b":    {Source: "/a", Target: "/b"},
		"/a:/b:ro": {Source: "/a", Target: "/b", ReadOnly: true},
		"tmpfs:/t": {Target: "/t"},
	} {
		v, err := parseVolume(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, v, text)
	}
	for _, text := range []string{"", "/a", ":/b", "/a:/b:rw", "/a:/b:ro:x"} {
		_, err := parseVolume(text)
		assert.Error(t, err, text)
	}
}

func FuzzParseVolume(f *testing.F) {
	f.Add("/a:/b:ro")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseVolume(text)
		if err != nil {
			return
		}
		want := v.Target
		if v.ReadOnly {
			want += ":ro"
		}
		require.True(t, strings.HasSuffix(text, ":"+want), "%q", text)
	})
}
