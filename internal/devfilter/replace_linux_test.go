// SPDX-License-Identifier: Apache-2.0

package devfilter

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caisson-run/caisson/internal/bpf"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// TestReplace attaches programs to a real group, one in the place of another,
// and puts the first one back (fault 46).
func TestReplace(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	var top string
	for _, m := range mounts {
		if m.V2 {
			top = m.Path
		}
	}
	path := filepath.Join(top, testutil.CgroupName(t))
	require.NoError(t, os.Mkdir(path, 0o755))
	defer func() { require.NoError(t, os.Remove(path)) }()
	dir, err := os.Open(path)
	require.NoError(t, err)
	defer dir.Close()
	fd := int(dir.Fd())

	names := func() (names []string) {
		found, err := bpf.Attached(bpf.CgroupDevice, fd)
		require.NoError(t, err)
		defer found.Close()
		for _, p := range found.Programs {
			names = append(names, p.Name)
		}
		return names
	}
	require.Empty(t, names())
	load := func(rules ...Rule) *bpf.Program {
		p, err := Load(rules)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return p
	}
	first, second := load(), load(Rule{Major: 1, Minor: 3, Read: true}, Rule{Block: true, AnyMajor: true, AnyMinor: true, Mknod: true})
	for range 100 { // the kernel attaches at most 64
		require.NoError(t, bpf.Replace(bpf.CgroupDevice, fd, first))
		require.Equal(t, []string{first.Name}, names())
		require.NoError(t, bpf.Replace(bpf.CgroupDevice, fd, second))
		require.Equal(t, []string{second.Name}, names())
	}
	found, err := bpf.Attached(bpf.CgroupDevice, fd)
	require.NoError(t, err)
	require.NoError(t, bpf.Replace(bpf.CgroupDevice, fd, first, load(Rule{Major: 9, Write: true})))
	require.Len(t, names(), 2)
	require.NoError(t, bpf.Replace(bpf.CgroupDevice, fd, found.Programs...))
	require.Equal(t, []string{second.Name}, names(), "a program that was found is attached again")
	found.Close()
	require.NoError(t, bpf.Replace(bpf.CgroupDevice, fd))
	require.Empty(t, names())
}
