// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// seen is what the child "look" finds at a path.
type seen struct {
	Mode  string // "" if nothing is there
	Text  string
	Link  string
	Names []string
	Write string // the error of opening it to write; "" if that can be done
}

func childLook(args []string) int {
	found := map[string]seen{}
	for _, p := range args {
		found[p] = look(p)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
	return 0
}

// look opens the path once: somebody may exchange what is there.
func look(p string) (s seen) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	var info os.FileInfo
	if err == nil {
		defer f.Close()
		info, err = f.Stat()
	} else if info, err = os.Lstat(p); err == nil && (info.IsDir() || info.Mode().IsRegular()) && os.Geteuid() == 0 {
		return s // it was not there a moment ago
	}
	if err != nil {
		return s
	}
	s.Mode = info.Mode().String()
	s.Link, _ = os.Readlink(p)
	if info.IsDir() {
		s.Names, _ = f.Readdirnames(-1)
		slices.Sort(s.Names)
		if err := os.Mkdir(p+"/made", 0o755); err != nil {
			s.Write = err.Error()
		}
		return s
	}
	if info.Mode().IsRegular() {
		text, _ := io.ReadAll(f)
		s.Text = string(text)
	}
	w, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		s.Write = err.Error()
	}
	_ = w.Close()
	return s
}

// image is a directory that a root can be made of, with this test binary as its
// only program once inRoot has mounted it.
func image(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != "/"; p = filepath.Dir(p) { // for the ids of a user namespace
		if info, err := os.Stat(p); err == nil && info.Mode()&0o001 == 0 {
			require.NoError(t, os.Chmod(p, info.Mode()|0o011))
		}
	}
	for _, name := range []string{"proc", "sys", "dev", "bin", "etc", "tmp"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/test"), nil, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/name"), []byte("lower"), 0o644))
	return dir
}

// inRoot has the spec's child run in a root.
func inRoot(t testing.TB, s isolation.Spec, root isolation.Root) isolation.Spec {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	root.Volumes = append([]isolation.Volume{{Target: "/bin/test", Source: exe, ReadOnly: true}}, root.Volumes...)
	s.Root = root
	s.Process.Args[0] = "/bin/test"
	return s
}

// looked runs the sandbox's child "look" and returns what it found.
func looked(t testing.TB, box *isolation.Sandbox) map[string]seen {
	t.Helper()
	out, err := io.ReadAll(run(t, box))
	require.NoError(t, err)
	var found map[string]seen
	require.NoError(t, json.Unmarshal(out, &found), "%s", out)
	return found
}

func TestRootPath(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	dir := image(t)
	s := inRoot(t, spec(t, "path", "look", "/", "/etc/name", "/dev", "/dev/null", "/dev/shm", "/proc/1/comm",
		"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/interrupts", "/sys/kernel", "/vol", "/tmp", "/host/name"),
		isolation.Root{Path: dir, ReadOnly: true})
	share := t.TempDir()
	require.NoError(t, os.WriteFile(share+"/name", []byte("shared"), 0o644))
	require.NoError(t, os.Mkdir(dir+"/vol", 0o755))
	s.Root.Volumes = append(s.Root.Volumes,
		isolation.Volume{Target: "/vol", Size: 1 << 20, Mode: 0o750},
		isolation.Volume{Target: "/host", Source: share, ReadOnly: true})
	_, err := h.Create(deadline(t), s)
	assert.ErrorIs(t, err, isolation.ErrInvalid)
	assert.ErrorContains(t, err, "/host")
	require.NoError(t, os.Mkdir(dir+"/host", 0o755))
	found := looked(t, create(t, h, s))
	assert.Equal(t, []string{"bin", "dev", "etc", "host", "proc", "sys", "tmp", "vol"}, found["/"].Names)
	assert.Contains(t, found["/"].Write, "read-only")
	assert.Contains(t, found["/tmp"].Write, "read-only")
	assert.Contains(t, found["/etc/name"].Write, "read-only")
	assert.Equal(t, "lower", found["/etc/name"].Text)
	assert.Equal(t, "shared", found["/host/name"].Text)
	assert.Contains(t, found["/host/name"].Write, "read-only")
	assert.Empty(t, found["/vol"].Write)
	assert.Equal(t, "drwxr-x---", found["/vol"].Mode)
	assert.Equal(t, "Dcrw-rw-rw-", found["/dev/null"].Mode)
	assert.Empty(t, found["/dev/null"].Write)
	assert.Empty(t, found["/dev/shm"].Write)
	assert.Equal(t, []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
		"tty", "urandom", "zero"}, found["/dev"].Names)
	assert.Equal(t, "test\n", found["/proc/1/comm"].Text)
	assert.Contains(t, found["/proc/sys/kernel/hostname"].Write, "read-only")
	if found["/proc/sysrq-trigger"].Mode != "" { // an option of the kernel
		assert.Contains(t, found["/proc/sysrq-trigger"].Write, "read-only")
	}
	assert.Equal(t, "Dcrw-rw-rw-", found["/proc/interrupts"].Mode, "masked")
	assert.Contains(t, found["/sys/kernel"].Write, "read-only")
	assert.NoDirExists(t, share+"/made")
}

func TestRootLayers(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	lower, top, upper := image(t), t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(top+"/etc", 0o755))
	require.NoError(t, os.WriteFile(top+"/etc/name", []byte("top"), 0o644))
	s := inRoot(t, spec(t, "layers", "look", "/", "/etc/name", "/srv/deep/vol", "/srv/link"),
		isolation.Root{Layers: []string{top, lower}, Size: 1 << 20, Volumes: []isolation.Volume{
			{Target: "/srv/deep/vol"}, {Target: "/srv/link", Source: top + "/etc/name"},
		}})
	found := looked(t, create(t, h, s))
	assert.Equal(t, "top", found["/etc/name"].Text)
	assert.Empty(t, found["/etc/name"].Write)
	assert.Empty(t, found["/"].Write)
	assert.Equal(t, "dtrwxrwxrwx", found["/srv/deep/vol"].Mode)
	assert.Equal(t, "top", found["/srv/link"].Text)
	for _, dir := range []string{lower, top} {
		assert.NoDirExists(t, dir+"/made")
		assert.NoDirExists(t, dir+"/srv")
	}

	if !overlayUpper(t, upper) {
		return
	}
	s.ID, s.Root.Size, s.Root.Upper = "kept", 0, upper
	looked(t, create(t, h, s))
	assert.DirExists(t, upper+"/upper/made", "it stays")
	found = looked(t, create(t, h, func() isolation.Spec { s := s.Clone(); s.ID = "again"; return s }()))
	assert.Contains(t, found["/"].Names, "made")
}

// overlayUpper reports whether an overlay can write to dir: in the kernel matrix
// it is on a ramfs, which cannot hold its marks.
func overlayUpper(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	ramfs := strings.HasPrefix(string(mounts), "rootfs ") || strings.HasPrefix(string(mounts), "none / rootfs")
	return !ramfs
}

func TestRootUserNamespace(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	h := open(t)
	s := inRoot(t, spec(t, "user", "look", "/", "/dev/null", "/proc/1/comm"), isolation.Root{Path: image(t)})
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 65536}}
	s.Namespaces.UIDMap, s.Namespaces.GIDMap = ids, ids
	s.Namespaces.User, s.Namespaces.Network = isolation.NamespaceNew, isolation.NamespaceNew
	found := looked(t, create(t, h, s))
	assert.Equal(t, "Dcrw-rw-rw-", found["/dev/null"].Mode)
	assert.Empty(t, found["/dev/null"].Write)
	assert.Contains(t, found["/"].Write, "permission denied", "its owner is not mapped")
	assert.Equal(t, "test\n", found["/proc/1/comm"].Text)
}

func TestRootProgram(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	dir := image(t)
	s := inRoot(t, spec(t, "search", "exit", "7"), isolation.Root{Path: dir})
	s.Process.Args[0] = "test"
	box := create(t, h, s)
	require.NoError(t, box.Start(deadline(t)))
	st, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 7, st.Code)

	s.ID, s.Process.Args = "none", []string{"/bin/true-or-not"}
	box = create(t, h, s)
	err = box.Start(deadline(t))
	var step *isolation.StepError
	require.ErrorAs(t, err, &step)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.Contains(t, step.Step, "exec")
	s.ID, s.Process.Args = "search-none", []string{"sh"}
	assert.ErrorIs(t, create(t, h, s).Start(deadline(t)), os.ErrNotExist, "the machine's own is not looked for")
}

func TestRootRefused(t *testing.T) {
	base := isolation.Spec{ID: "x", Process: isolation.Process{Args: []string{"/x"}}}
	for _, r := range []isolation.Root{
		{ReadOnly: true},
		{Path: "rel"},
		{Path: "/a", Layers: []string{"/b"}},
		{Path: "/a", Upper: "/u"},
		{Path: "/a", Size: 1},
		{Layers: []string{"rel"}},
		{Layers: []string{"/a"}, Upper: "rel"},
		{Layers: []string{"/a"}, Upper: "/u", Size: 1},
		{Layers: make([]string, 161)},
		{Path: "/a\x00"},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "rel"}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/"}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/a/../b"}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/a", Source: "rel"}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/a", Source: "/b", Size: 1}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/a", Slave: true}}},
		{Path: "/a", Volumes: []isolation.Volume{{Target: "/a", Mode: 1 << 20}}},
		{Path: "/a", Masked: []string{"proc"}},
		{Path: "/a", Guarded: []string{"/proc/../x"}},
	} {
		s := base
		s.Root = r
		assert.ErrorIs(t, s.Validate(), isolation.ErrInvalid, "%+v", r)
	}
	s := base
	s.Root, s.Namespaces.Mount, s.Namespaces.PID = isolation.Root{Path: "/a"}, isolation.NamespaceHost, isolation.NamespaceHost
	assert.ErrorIs(t, s.Validate(), isolation.ErrInvalid)
	s = base
	s.Root = isolation.Root{Path: "/a", Masked: []string{}, Volumes: []isolation.Volume{{Target: "/v"}}}
	require.NoError(t, s.Validate())
	assert.True(t, s.Equal(s.Clone()))
	other := s.Clone()
	other.Root.Masked = nil
	assert.False(t, s.Equal(other), "no list is the default one")
	other = s.Clone()
	other.Root.Volumes[0].Target = "/w"
	assert.False(t, s.Equal(other))
}
