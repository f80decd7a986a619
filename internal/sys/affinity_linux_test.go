// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAffinity(t *testing.T) {
	all, err := Affinity(os.Getpid())
	require.NoError(t, err)
	assert.NotEqual(t, CPUMask{}, all)
	assert.True(t, all.Within(&all))
	var none CPUMask
	assert.True(t, none.Within(&all))
	assert.False(t, all.Within(&none))
	none.Set(-1)
	none.Set(1 << 20)
	assert.Equal(t, CPUMask{}, none, "numbers beyond the mask are left out")
	none.Set(8191)
	assert.Equal(t, uint64(1)<<63, none[len(none)-1])

	_, err = Affinity(1 << 30)
	require.ErrorIs(t, err, syscall.ESRCH)
}

func TestReleaseBefore(t *testing.T) {
	old, err := ReleaseBefore(5, 0)
	require.NoError(t, err)
	assert.False(t, old, "this project needs 5.10")
	old, err = ReleaseBefore(1000, 0)
	require.NoError(t, err)
	assert.True(t, old)
}
