// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"testing"

	"github.com/caisson-run/caisson/internal/bpf"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A group has one priority, whatever it had before, and others keep their programs.
func TestSetEgressPriority(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	fd := c.unified().dir.FD()
	names := func() (list []string) {
		found, err := bpf.Attached(bpf.CgroupEgress, fd)
		require.NoError(t, err)
		defer found.Close()
		for _, p := range found.Programs {
			list = append(list, p.Name)
		}
		return list
	}
	err := c.SetEgressPriority(2)
	if errors.Is(err, ErrNotSupported) || errors.Is(err, os.ErrPermission) {
		testutil.Skip(t, "cls_bpf", "%v", err)
	}
	require.NoError(t, err)
	theirs, err := bpf.Load(bpf.CgroupEgress, "theirs", bpf.EgressPriority(9))
	require.NoError(t, err)
	defer theirs.Close()
	require.NoError(t, bpf.Add(bpf.CgroupEgress, fd, theirs))
	require.NoError(t, c.SetEgressPriority(2), "again")
	assert.Equal(t, []string{"cais_p_2", "theirs"}, names())
	require.NoError(t, c.SetEgressPriority(0xca150002))
	assert.Equal(t, []string{"theirs", "cais_p_ca150002"}, names())
}
