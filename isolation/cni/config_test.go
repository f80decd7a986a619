// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"testing"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const plain = `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "bridge"}]}`

func TestValidate(t *testing.T) {
	good := Config{Lists: [][]byte{[]byte(plain)}, State: "/run/agent/cni", Scope: "agent1"}
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*Config){
		"no list":         func(c *Config) { c.Lists = nil },
		"many lists":      func(c *Config) { c.Lists = make([][]byte, 17) },
		"no JSON":         func(c *Config) { c.Lists = [][]byte{[]byte("x")} },
		"no name":         func(c *Config) { c.Lists = [][]byte{[]byte(`{"plugins": [{"type": "bridge"}]}`)} },
		"no plugins":      func(c *Config) { c.Lists = [][]byte{[]byte(`{"name": "lan"}`)} },
		"hostile name":    func(c *Config) { c.Lists = [][]byte{[]byte(`{"name": "../x", "plugins": [{"type": "bridge"}]}`)} },
		"the same twice":  func(c *Config) { c.Lists = append(c.Lists, c.Lists[0]) },
		"relative state":  func(c *Config) { c.State = "state" },
		"no scope":        func(c *Config) { c.Scope = "" },
		"hostile scope":   func(c *Config) { c.Scope = "a/b" },
		"very long scope": func(c *Config) { c.Scope = "abcdefghijklmnopq" },
	} {
		c := good
		change(&c)
		assert.ErrorIs(t, c.Validate(), isolation.ErrInvalid, name)
		_, err := New(c)
		assert.ErrorIs(t, err, isolation.ErrInvalid, name)
	}
}

func TestUnspecified(t *testing.T) {
	for _, c := range []struct {
		spec isolation.Spec
		want bool
	}{
		{isolation.Spec{}, true},
		{isolation.Spec{Network: netns.Spec{Mode: netns.ModeHost}}, false},
		{isolation.Spec{Namespaces: isolation.Namespaces{Network: isolation.NamespaceHost}}, false},
	} {
		_, got := unspecified(c.spec)
		assert.Equal(t, c.want, got)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"version": 1, "lists": [` + plain + `], "args": [["A", "b"]], "capabilities": {"mac": "02:00:00:00:00:01"}, "done": true}`))
	f.Add([]byte(`{"version": 2}`))
	f.Add([]byte(`{"version": 1, "lists": [{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text)
		if err != nil {
			require.Zero(t, r)
			return
		}
		chains, err := r.chains("test-web", "/run/netns/web")
		require.NoError(t, err)
		require.Len(t, chains, len(r.Lists))
		again, err := json.Marshal(r)
		require.NoError(t, err)
		same, err := parseRecord(again)
		require.NoError(t, err)
		a, err := json.Marshal(same)
		require.NoError(t, err)
		require.JSONEq(t, string(again), string(a))
	})
}
