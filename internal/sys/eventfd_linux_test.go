// SPDX-License-Identifier: Apache-2.0

package sys_test

import (
	"encoding/binary"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/sys"
)

func TestEventFD(t *testing.T) {
	f, err := sys.NewEventFD()
	require.NoError(t, err)
	n, err := sys.DrainEventFD(f)
	require.NoError(t, err)
	assert.Zero(t, n)

	for range 2 {
		_, err = syscall.Write(f.Int(), binary.NativeEndian.AppendUint64(nil, 3))
		require.NoError(t, err)
	}
	n, err = sys.DrainEventFD(f)
	require.NoError(t, err)
	assert.EqualValues(t, 6, n)
	n, err = sys.DrainEventFD(f)
	require.NoError(t, err)
	assert.Zero(t, n)

	require.NoError(t, f.Close())
	_, err = sys.DrainEventFD(f)
	assert.ErrorIs(t, err, os.ErrClosed)
}
