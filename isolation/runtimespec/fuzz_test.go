// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/runtimespec"
)

// again converts a spec to a configuration and back.
func again(t *testing.T, s isolation.Spec) isolation.Spec {
	spec, _, err := runtimespec.ToSpec(s, runtimespec.Config{})
	require.NoError(t, err)
	s, left, err := runtimespec.FromSpec(s.ID, spec)
	require.NoError(t, err)
	if !s.Root.Bare {
		assert.Empty(t, left)
	}
	return s
}

// FuzzFromBundle reads any bytes as a configuration: what is an error gives
// nothing, and what was understood is understood again.
func FuzzFromBundle(f *testing.F) {
	files, err := testdata.ReadDir("testdata")
	require.NoError(f, err)
	for _, file := range files {
		b, err := testdata.ReadFile("testdata/" + file.Name())
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/","scheduler":{"policy":"SCHED_RR","priority":3}},` +
		`"root":{"path":"/a"},"mounts":[{"destination":"/dev/shm","type":"tmpfs"},{"destination":"/dev/shm","type":"tmpfs"}],` +
		`"linux":{"namespaces":[{"type":"mount"},{"type":"network","path":"/x"}],"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}`))
	f.Add([]byte(`{"ociVersion":"1.0.2","x":{"a":[1,{"b":null}]},"process":null,"Root":{}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		s, left, err := runtimespec.FromBundle("box", bundle(t, config))
		if err != nil {
			assert.Equal(t, isolation.Spec{}, s)
			assert.Empty(t, left)
			return
		}
		require.NoError(t, s.Validate())
		once := again(t, s)
		s.Process.Env = once.Process.Env // a PATH may have been added, once
		s.Resources = once.Resources     // numbers become those of the kernel's files
		assert.Equal(t, asText(t, s), asText(t, once))
		assert.Equal(t, asText(t, once), asText(t, again(t, once)))
	})
}
