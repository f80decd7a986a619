// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKind(t *testing.T) {
	for k, want := range map[Kind]struct {
		name string
		flag uint32
	}{
		User: {"user", 0x10000000}, PID: {"pid", 0x20000000}, Mount: {"mnt", 0x20000}, Network: {"net", 0x40000000},
		IPC: {"ipc", 0x08000000}, UTS: {"uts", 0x04000000}, Cgroup: {"cgroup", 0x02000000}, Time: {"time", 0x80},
	} {
		assert.Equal(t, want.name, k.String())
		assert.Equal(t, want.flag, k.Flag())
		assert.Equal(t, k, kindOfFlag(want.flag))
		parsed, err := ParseKind(want.name)
		require.NoError(t, err)
		assert.Equal(t, k, parsed)
		assert.True(t, AllKinds.Has(k))
	}
	for _, none := range []Kind{0, Time + 1, 255} {
		assert.False(t, none.valid())
		assert.Zero(t, none.Flag())
		assert.Zero(t, KindsOf(none))
		assert.False(t, AllKinds.Has(none))
		_, err := none.MarshalText()
		assert.ErrorIs(t, err, ErrInvalid)
	}
	assert.Equal(t, "kind(0)", Kind(0).String())
	assert.Zero(t, kindOfFlag(0))
	for _, bad := range []string{"", "network", "mount", "NET", "net ", "kind(0)", "net\x00"} {
		k, err := ParseKind(bad)
		assert.ErrorIs(t, err, ErrInvalid, "%q", bad)
		assert.Zero(t, k)
	}
	_, err := ParseKind("network")
	assert.EqualError(t, err, `namespace kind "network": none of user,pid,mnt,net,ipc,uts,cgroup,time`)
}

func TestKinds(t *testing.T) {
	s := KindsOf(Network, PID, PID)
	assert.Equal(t, "pid,net", s.String())
	assert.True(t, s.Has(PID))
	assert.False(t, s.Has(User))
	assert.Equal(t, uint32(0x60000000), s.Flags())
	assert.Equal(t, []Kind{PID, Network}, slices.Collect(s.All()))
	assert.Equal(t, KindsOf(PID, Network, UTS), s.With(KindsOf(UTS, PID)))
	assert.Equal(t, KindsOf(PID), s.Without(KindsOf(Network, UTS)))
	assert.Equal(t, "", Kinds(0).String())
	assert.Zero(t, Kinds(0).Flags())
	for k := range AllKinds.All() {
		if k == IPC {
			break
		}
	}

	for _, bad := range []string{",", "net,", "net,,pid", "net pid", "all"} {
		got, err := ParseKinds(bad)
		assert.ErrorIs(t, err, ErrInvalid, "%q", bad)
		assert.Zero(t, got)
	}
}

func TestJSON(t *testing.T) {
	type doc struct {
		ID    ID
		Kinds Kinds
	}
	want := doc{ID{Kind: Network, Dev: 4, Ino: 4026531840}, KindsOf(Mount, User)}
	b, err := json.Marshal(want)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ID":{"kind":"net","dev":4,"ino":4026531840},"Kinds":"user,mnt"}`, string(b))
	var got doc
	require.NoError(t, json.Unmarshal(b, &got))
	assert.Equal(t, want, got)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"Kinds":"x"}`), &got), ErrInvalid)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"ID":{"kind":"x"}}`), &got), ErrInvalid)
	assert.Equal(t, want, got)

	assert.Equal(t, "net:[4026531840]", want.ID.String())
	assert.False(t, want.ID.IsZero())
	assert.True(t, ID{}.IsZero())
}

func FuzzParseKinds(f *testing.F) {
	f.Add("user,pid,mnt,net,ipc,uts,cgroup,time")
	f.Add("net,net")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseKinds(text)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, s)
			return
		}
		require.Zero(t, s.Without(AllKinds))
		again, err := ParseKinds(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
		var flags uint32
		for k := range s.All() {
			require.Equal(t, k, kindOfFlag(k.Flag()))
			flags |= k.Flag()
		}
		require.Equal(t, s.Flags(), flags)
	})
}
