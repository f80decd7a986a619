// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCreate(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	for _, kind := range []Kind{Network, IPC, UTS, Cgroup} {
		var wg sync.WaitGroup
		ids := make([]ID, 8)
		for i := range ids {
			wg.Go(func() {
				h, err := Create(kind)
				if !assert.NoError(t, err) {
					return
				}
				defer h.Close()
				ids[i] = h.ID()
				assert.NoError(t, Do(func() error {
					assert.Equal(t, h.ID(), current(t, kind))
					return nil
				}, h))
			})
		}
		wg.Wait()
		for _, id := range ids {
			assert.NotEqual(t, current(t, kind), id)
		}
	}
	for _, kind := range []Kind{User, PID, Mount, Time} {
		_, err := Create(kind)
		assert.ErrorIs(t, err, ErrNotSupported)
	}
	_, err := Create(0)
	assert.ErrorIs(t, err, ErrInvalid)
}

func TestCreateUnprivileged(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Unprivileged)
	_, err := Create(Network)
	assert.ErrorIs(t, err, os.ErrPermission)
}

func TestPin(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	path := filepath.Join(t.TempDir(), "pin")
	h, err := Create(Network)
	require.NoError(t, err)
	id := h.ID()
	require.NoError(t, h.Pin(path))
	assert.ErrorIs(t, h.Pin(path), os.ErrExist)
	require.NoError(t, h.Close())
	assert.ErrorIs(t, h.Pin(path+"2"), os.ErrClosed)

	found, err := OpenPath(path)
	require.NoError(t, err, "it lives on")
	assert.Equal(t, id, found.ID())
	require.NoError(t, found.Close())
	require.NoError(t, Unpin(path))
	assert.NoFileExists(t, path)
	require.NoError(t, Unpin(path), "again")
}

// A pin that is a link, was swapped for another file, or that a crash left
// half-made (faults 52 and 54).
func TestPinSwapped(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	dir := t.TempDir()
	path := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(path, nil, 0))
	_, err := OpenPath(path)
	assert.ErrorIs(t, err, ErrNotNamespace)
	require.NoError(t, Unpin(path), "the empty file of a crash before the mount")
	assert.NoFileExists(t, path)

	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("precious"), 0o600))
	assert.ErrorIs(t, Unpin(other), ErrNotNamespace)
	require.NoError(t, os.Symlink(other, path))
	_, err = OpenPath(path)
	assert.ErrorIs(t, err, ErrNotNamespace)
	assert.ErrorIs(t, Unpin(path), ErrNotNamespace)
	h, err := Create(Network)
	require.NoError(t, err)
	defer h.Close()
	assert.ErrorIs(t, h.Pin(path), os.ErrExist)
	text, err := os.ReadFile(other)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text))

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/proc/self/ns/net", path))
	_, err = OpenPath(path)
	assert.ErrorIs(t, err, ErrNotNamespace, "a link to a namespace is no pin")
	assert.ErrorIs(t, Unpin(path), ErrNotNamespace)
}

func BenchmarkCreate(b *testing.B) {
	testutil.Require(b, testutil.Root)
	for b.Loop() {
		h, err := Create(Network)
		if err != nil {
			b.Fatal(err)
		}
		_ = h.Close()
	}
}
