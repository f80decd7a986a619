// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUserNamespace: a sandbox with users of its own has a network that is the
// machine's, and in a volume with mapped ids what is root's on the disk.
func TestUserNamespace(t *testing.T) {
	for _, mapped := range []bool{false, true} {
		t.Run(map[bool]string{false: "ids", true: "volume"}[mapped], func(t *testing.T) { inUserNamespace(t, mapped) })
	}
}

func inUserNamespace(t *testing.T, mapped bool) {
	testutil.Require(t, testutil.UserNamespaces)
	at := place(t)
	h := host(t, at)
	share := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(share, "file"), nil, 0o600))
	// The directories of a test are nobody else's, and root in there is somebody else.
	spec := waiting(rootfs(t), mark(t))
	passable := func(dir string) {
		for ; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
	}
	passable(spec.Root.Path)
	passable(share)
	spec.Root.Volumes = append(spec.Root.Volumes, isolation.Volume{Source: share, Target: "/share", IDMapped: mapped})
	for _, name := range []string{"proc", "sys", "dev", "share", "lib", "lib64", "usr/lib"} {
		require.NoError(t, os.MkdirAll(filepath.Join(spec.Root.Path, name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(spec.Root.Path, "workload"), nil, 0o755))
	spec.Namespaces.User = isolation.NamespaceNew
	spec.Namespaces.UIDMap = namespaces.IDMaps{{Outside: 100000, Count: 1000}}
	spec.Namespaces.GIDMap = spec.Namespaces.UIDMap
	spec.Network = netns.Spec{Mode: netns.ModeNew}
	box, err := h.Create(t.Context(), spec)
	if mapped && errors.Is(err, isolation.ErrNotSupported) {
		finish(t, h)
		testutil.Skip(t, "idmapped", "%v", err)
	}
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	err = box.Start(t.Context(), nil, w)
	if mapped && err != nil && strings.Contains(err.Error(), "MOUNT_ATTR_IDMAP") { // its file system cannot
		finish(t, h)
		testutil.Skip(t, "idmapped", "%v", err)
	}
	require.NoError(t, err)
	st, err := box.Check(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "100000\t100000\t100000\t100000", status(t, st.PID, "Uid"))
	out, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", st.PID), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer out.Close()
	info, err := out.Stat()
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o622), info.Mode().Perm(), "root in there may open it again")
	var file syscall.Stat_t
	require.NoError(t, syscall.Stat(fmt.Sprintf("/proc/%d/root/share/file", st.PID), &file))
	if mapped {
		assert.EqualValues(t, 100000, file.Uid, "root's, for root in there")
	} else {
		assert.Zero(t, file.Uid)
	}
	inside, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", st.PID))
	require.NoError(t, err)
	path, err := filepath.Glob(filepath.Join(pins(at), "*-a"))
	require.NoError(t, err)
	same := false
	for _, p := range path {
		pinned, err := os.Stat(p)
		require.NoError(t, err)
		same = same || os.SameFile(inside, pinned)
	}
	assert.True(t, same, "the network is one of %v", path)
	finish(t, h)
}
