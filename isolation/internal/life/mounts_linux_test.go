// SPDX-License-Identifier: Apache-2.0

package life

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the kernel cannot do for mounts below is not asked of it, and they stay away.
func TestMountable(t *testing.T) {
	file, err := os.Executable()
	require.NoError(t, err)
	all := []string{"rbind", "rprivate", "nosuid", "rnosuid", "ro", "rro"}
	for _, c := range []struct {
		source  string
		setattr bool
		want    []string
	}{
		{t.TempDir(), true, all},
		{t.TempDir(), false, []string{"bind", "rprivate", "nosuid", "ro"}},
		{file, true, []string{"rbind", "rprivate", "nosuid", "ro"}},
		{file, false, []string{"bind", "rprivate", "nosuid", "ro"}},
	} {
		list := []specs.Mount{{Type: "bind", Source: c.source, Options: all}, {Type: "tmpfs", Options: all}}
		mountable(list, c.setattr)
		assert.Equal(t, c.want, list[0].Options)
		assert.Equal(t, all, list[1].Options)
	}
}
