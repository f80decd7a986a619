// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/internal/wire"
)

// No field of a Spec is left behind, also none that is added later.
func TestWire(t *testing.T) {
	stub := &Stub{}
	for name, s := range testutil.Filled[Spec]() {
		s.Calls = nil
		if s.Stub != nil {
			s.Stub = stub
		}
		data, fds, err := s.Marshal()
		require.NoError(t, err, name)
		got, err := Unmarshal(data, fds, func() (*Stub, error) { return stub, nil })
		require.NoError(t, err, name)
		assert.Equal(t, s, got, name)
	}
	s := Spec{Path: "/x", Files: []int{8, -1, 8, 9}, Cgroup: &File{FD: 5, Path: "c"}, Stub: stub}
	data, fds, err := s.Marshal()
	require.NoError(t, err)
	assert.Equal(t, []int{8, 9, 5}, fds)
	got, err := Unmarshal(data, []int{20, 21, 22}, func() (*Stub, error) { return stub, nil })
	require.NoError(t, err)
	assert.Equal(t, []int{20, -1, 20, 21}, got.Files)
	assert.Equal(t, 22, got.Cgroup.FD)
	_, err = Unmarshal(data, fds, func() (*Stub, error) { return nil, ErrNotSupported })
	require.ErrorIs(t, err, ErrNotSupported)

	var refused *SpecError
	_, _, err = (&Spec{Calls: []Call{{Name: "x"}}}).Marshal()
	require.ErrorAs(t, err, &refused)
}

// What can be read can be written again, and is the same.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range testutil.Filled[Spec]() {
		s.Calls = nil
		data, _, err := s.Marshal()
		require.NoError(f, err)
		f.Add(data)
		break
	}
	stub := &Stub{}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Unmarshal(data, []int{3, 4}, func() (*Stub, error) { return stub, nil })
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMalformed)
			require.Equal(t, Spec{}, s)
			return
		}
		_ = s.Validate() // whatever it says, it says it
		again, fds, err := s.Marshal()
		require.NoError(t, err)
		same, err := Unmarshal(again, fds, func() (*Stub, error) { return stub, nil })
		require.NoError(t, err)
		require.Equal(t, s, same)
	})
}
