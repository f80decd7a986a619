// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
)

// held is what holds the namespace, by kind.
func held(t *testing.T, id ID) map[HolderKind][]Holder {
	t.Helper()
	list, err := Holders(id)
	if !errors.Is(err, os.ErrPermission) {
		require.NoError(t, err)
	}
	byKind := map[HolderKind][]Holder{}
	for _, h := range list {
		byKind[h.How] = append(byKind[h.How], h)
		assert.Contains(t, h.String(), h.Path)
	}
	return byKind
}

func TestHolders(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	cmd, stop := holder(t, KindsOf(Network))
	h, err := OpenPID(cmd.Process.Pid, Network)
	require.NoError(t, err)
	pin := filepath.Join(t.TempDir(), "a pin\\with\todd bytes")
	require.NoError(t, h.Pin(pin))
	by := held(t, h.ID())
	require.NotEmpty(t, by[Member], "each thread of it")
	for _, m := range by[Member] {
		assert.Equal(t, cmd.Process.Pid, m.PID)
	}
	assert.Equal(t, []Holder{{Descriptor, os.Getpid(), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.FD())}}, by[Descriptor])
	require.NotEmpty(t, by[Pinned])
	for _, p := range by[Pinned] {
		assert.Equal(t, pin, p.Path)
	}
	id := h.ID()
	require.NoError(t, h.Close())
	stop()
	by = held(t, id)
	assert.Empty(t, by[Member])
	assert.Empty(t, by[Descriptor])
	assert.NotEmpty(t, by[Pinned])
	require.NoError(t, Unpin(pin))
	assert.Empty(t, held(t, id))
}

func TestHoldersBirth(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	cmd, _ := holder(t, KindsOf(PID))
	h := open(t, cmd, PID)
	require.NoError(t, Do(func() error {
		by := held(t, h.ID())
		if assert.Len(t, by[Birth], 1) {
			assert.Equal(t, os.Getpid(), by[Birth][0].PID)
		}
		return nil
	}, h))
	assert.Empty(t, held(t, h.ID())[Birth], "no thread is left there")
}

func TestHoldersRefuses(t *testing.T) {
	_, err := Holders(ID{})
	assert.ErrorIs(t, err, ErrInvalid)
	by := held(t, current(t, Network))
	assert.NotEmpty(t, by[Member])
}

func FuzzPinOf(f *testing.F) {
	f.Add(`46 45 0:4 net:[4026532204] /run/a\040b rw shared:3 - nsfs nsfs rw`, "net:[4026532204]")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, line, namespace string) {
		at, ok := pinOf(line, namespace)
		if !ok {
			require.Empty(t, at)
			return
		}
		require.NotEmpty(t, at)
		require.Contains(t, line, namespace)
		if !strings.Contains(line, `\`) {
			require.Contains(t, line, at)
		}
	})
}
