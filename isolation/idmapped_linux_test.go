// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"encoding/json"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// owner is of a file on the disk.
func owner(t *testing.T, path string) int {
	t.Helper()
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(path, &st))
	return int(st.Uid)
}

// shared makes a directory a mount whose peers get what is mounted on it.
func shared(t *testing.T, dir string) string {
	t.Helper()
	require.NoError(t, syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_SHARED, ""))
	return dir
}

// TestIDMapped: a sandbox with users of its own reads and writes what is root's on
// the disk, and leaves it root's; without idmapped mounts it cannot.
func TestIDMapped(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	h := open(t)
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	for _, c := range []struct {
		name string
		root func(dir, upper string) isolation.Root
		kept func(dir, upper string) string // where what is made in "/" is
	}{
		{"path", func(dir, _ string) isolation.Root { return isolation.Root{Path: dir} }, func(dir, _ string) string { return dir }},
		{"layers", func(dir, _ string) isolation.Root { return isolation.Root{Layers: []string{dir}} }, nil},
		{"upper", func(dir, upper string) isolation.Root { return isolation.Root{Layers: []string{dir}, Upper: upper} },
			func(_, upper string) string { return upper + "/upper" }},
	} {
		for _, idMapped := range []bool{true, false} {
			dir, upper, share := shared(t, image(t)), t.TempDir(), shared(t, t.TempDir())
			require.NoError(t, os.WriteFile(dir+"/etc/secret", []byte("root's"), 0o600))
			require.NoError(t, os.Mkdir(dir+"/share", 0o755))
			require.NoError(t, os.WriteFile(share+"/file", []byte("root's too"), 0o600))
			s := inRoot(t, spec(t, c.name, "look", "/", "/etc/secret", "/share", "/share/file"), c.root(dir, upper))
			s.Root.IDMapped = idMapped
			s.Root.Volumes = append(s.Root.Volumes, isolation.Volume{Target: "/share", Source: share, IDMapped: idMapped})
			s.Namespaces.User, s.Namespaces.Network = isolation.NamespaceNew, isolation.NamespaceNew
			s.Namespaces.UIDMap, s.Namespaces.GIDMap = ids, ids
			if c.name == "upper" && (!idMapped || !overlayUpper(t, upper)) {
				continue // what is made in there first is root's
			}
			box := create(t, h, s)
			r, err := tryRun(t, box)
			if errors.Is(err, isolation.ErrNotSupported) {
				require.NoError(t, box.Destroy(deadline(t)))
				testutil.Skip(t, "idmapped", "%v", err)
			}
			require.NoError(t, err, c.name)
			var found map[string]seen
			require.NoError(t, json.NewDecoder(r).Decode(&found))
			if idMapped {
				assert.Equal(t, "root's", found["/etc/secret"].Text, c.name)
				assert.Equal(t, "root's too", found["/share/file"].Text, c.name)
				assert.Empty(t, found["/"].Write, c.name)
				assert.Empty(t, found["/share"].Write, c.name)
				assert.Zero(t, owner(t, share+"/made"), "it is root's on the disk")
				if c.kept != nil {
					assert.Zero(t, owner(t, c.kept(dir, upper)+"/made"), c.name)
				}
			} else {
				assert.Empty(t, found["/etc/secret"].Text, c.name)
				assert.Empty(t, found["/share/file"].Text, c.name)
				assert.NotEmpty(t, found["/share"].Write, c.name)
			}
			require.NoError(t, box.Destroy(deadline(t)))
		}
	}
}

// TestIDMappedRefused: a file system that has no owners of its own is said to be
// the reason, and nothing is left.
func TestIDMappedRefused(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	h := open(t)
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	s := inRoot(t, spec(t, "proc", "wait"), isolation.Root{Path: image(t)})
	s.Root.Volumes = append(s.Root.Volumes, isolation.Volume{Target: "/tmp", Source: "/proc/self", IDMapped: true})
	assert.ErrorIs(t, s.Validate(), isolation.ErrInvalid, "without users of its own")
	s.Namespaces.User, s.Namespaces.UIDMap, s.Namespaces.GIDMap = isolation.NamespaceNew, ids, ids
	box := create(t, h, s)
	err := box.Start(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotSupported)
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateCreated, st.State)
	assert.Zero(t, st.PIDs)
	for _, v := range []isolation.Volume{{Target: "/a", IDMapped: true}, {Target: "/a", Source: "/b", IDMapped: true, Slave: true}} {
		bad := s.Clone()
		bad.Root.Volumes = []isolation.Volume{v}
		assert.ErrorIs(t, bad.Validate(), isolation.ErrInvalid)
	}
}
