// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

// looks is what the child "look" sees of the paths that it is given.
type looks map[string]struct {
	Mode     string // "" if it is not there
	Text     string
	Link     string
	Writable bool
	Names    []string
}

func look(args []string) int {
	seen := looks{}
	for _, path := range args {
		l := seen[path]
		if info, err := os.Lstat(path); err == nil {
			l.Mode = info.Mode().String()
			l.Link, _ = os.Readlink(path)
			if info.Mode().IsRegular() && !strings.HasPrefix(path, "/proc/") {
				text, _ := os.ReadFile(path)
				l.Text = string(text)
			}
			if info.IsDir() {
				entries, _ := os.ReadDir(path)
				for _, e := range entries {
					l.Names = append(l.Names, e.Name())
				}
			}
			l.Writable = unix.Access(path, unix.W_OK) == nil
		}
		seen[path] = l
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	l := seen["mounts"]
	l.Text = string(mounts)
	seen["mounts"] = l
	l = seen["cwd"]
	l.Text, _ = os.Getwd()
	seen["cwd"] = l
	if json.NewEncoder(os.Stdout).Encode(seen) != nil {
		return 1
	}
	return 0
}

// rootDir is a directory with mount points and nothing else.
func rootDir(t testing.TB) string {
	dir := t.TempDir()
	for _, name := range []string{"proc", "dev", "sys", "tmp", "bin", "etc"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/test"), nil, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/name"), []byte("lower"), 0o644))
	return dir
}

// program and proc are what the child "look" needs.
func lookItems(t testing.TB) []Item {
	exe, err := os.Executable()
	require.NoError(t, err)
	return []Item{
		{Path: "bin/test", Mount: &Tree{Bind: exe, Attr: unix.MOUNT_ATTR_RDONLY}},
		{Path: "proc", Mount: &Tree{Type: "proc", Source: "proc", Attr: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}},
	}
}

// inRoot runs the child "look" in a root and returns what it saw.
func inRoot(t *testing.T, s Spec, paths ...string) (looks, error) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	s.Namespaces |= NewMount | NewPID
	s.Path, s.Args = "/bin/test", testutil.ChildArgs(t, "look", paths...)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	s.Files = []int{int(null.Fd()), int(w.Fd()), 2}
	p, err := Compile(s)
	require.NoError(t, err)
	c, err := p.Start(context.Background())
	require.NoError(t, w.Close())
	if err != nil {
		return nil, err
	}
	defer c.PIDFD.Close()
	assert.Empty(t, c.Degraded)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	status, err := c.Wait()
	require.NoError(t, err)
	require.Zero(t, status.Code, "output %s\n%s", out, p)
	var seen looks
	require.NoError(t, json.Unmarshal(out, &seen), "output %s", out)
	return seen, nil
}

func TestRootDirectory(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	dir := rootDir(t)
	items := append(lookItems(t),
		Item{Path: "dev", Mount: &Tree{Type: "tmpfs", Options: []string{"mode=755", "size=64k"}}},
		Item{Path: "dev/null", Make: MakeDevice, Mode: 0o666, Device: unix.Mkdev(1, 3)},
		Item{Path: "dev/fd", Make: MakeLink, Link: "/proc/self/fd"},
		Item{Path: "dev/pts", Make: MakeDirectory, Mode: 0o755},
		Item{Path: "dev/file", Make: MakeFile, Mode: 0o622},
		Item{Path: "dev/pts", Mount: &Tree{Type: "devpts", Options: []string{"newinstance", "ptmxmode=666"}}},
		Item{Path: "proc/sys", Attr: unix.MOUNT_ATTR_RDONLY},
		Item{Path: "proc/version", Mount: &Tree{Bind: "/dev/null"}},
	)
	seen, err := inRoot(t, Spec{Root: &Root{Tree: Tree{Bind: dir}, Items: items, ReadOnly: true}, Dir: "/tmp"},
		"/", "/dev/null", "/dev/fd", "/dev/file", "/dev/pts/ptmx", "/proc/sys/kernel/hostname", "/proc/self/comm", "/proc/version", "/tmp")
	require.NoError(t, err)
	assert.Equal(t, []string{"bin", "dev", "etc", "proc", "sys", "tmp"}, seen["/"].Names)
	assert.False(t, seen["/"].Writable)
	assert.False(t, seen["/tmp"].Writable)
	assert.Equal(t, "Dcrw-rw-rw-", seen["/dev/null"].Mode)
	assert.Equal(t, "/proc/self/fd", seen["/dev/fd"].Link)
	assert.Equal(t, "-rw--w--w-", seen["/dev/file"].Mode)
	assert.Equal(t, "Dcrw-rw-rw-", seen["/dev/pts/ptmx"].Mode)
	assert.False(t, seen["/proc/sys/kernel/hostname"].Writable)
	assert.True(t, seen["/proc/self/comm"].Writable)
	assert.Equal(t, "Dcrw-rw-rw-", seen["/proc/version"].Mode)
	assert.Equal(t, "/tmp", seen["cwd"].Text)
	assert.Equal(t, 7, strings.Count(seen["mounts"].Text, "\n"), "nothing of the machine's is left: %s", seen["mounts"].Text)
	after, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(after), dir, "nothing of it is seen outside")
}

// Items that have one tree share a file system; and no directory is gone on with that
// something was mounted on since.
func TestRootShared(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	empty := &Tree{Type: "tmpfs", Source: "empty", Attr: unix.MOUNT_ATTR_RDONLY}
	items := append(lookItems(t),
		Item{Path: "tmp", Mount: empty},
		Item{Path: "sys", Mount: &Tree{Type: "tmpfs"}},
		Item{Path: "sys/below", Make: MakeDirectory, Mode: 0o755},
		Item{Path: "sys", Follow: true, Mount: &Tree{Type: "tmpfs"}},
		Item{Path: "sys/above", Make: MakeDirectory, Mode: 0o755, Mount: empty},
		Item{Path: "sys/file", Make: MakeFile, Mode: 0o644, Mount: &Tree{Bind: "/dev/null"}},
	)
	seen, err := inRoot(t, Spec{Root: &Root{Tree: Tree{Bind: rootDir(t)}, Items: items}}, "/sys", "/sys/above", "/sys/file", "/tmp")
	require.NoError(t, err)
	assert.Equal(t, []string{"above", "file"}, seen["/sys"].Names)
	assert.Equal(t, "Dcrw-rw-rw-", seen["/sys/file"].Mode)
	for _, path := range []string{"/sys/above", "/tmp"} {
		assert.False(t, seen[path].Writable)
	}
	devices := map[string]string{}
	for line := range strings.Lines(seen["mounts"].Text) {
		f := strings.Fields(line)
		devices[f[4]] = f[2]
	}
	assert.Equal(t, devices["/tmp"], devices["/sys/above"])
}

func TestRootOverlay(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	lower, top, upper := rootDir(t), t.TempDir(), t.TempDir()
	odd := filepath.Join(top, "a:b,c\\d")
	require.NoError(t, os.MkdirAll(odd+"/etc", 0o755))
	require.NoError(t, os.WriteFile(odd+"/etc/name", []byte("top"), 0o644))
	for _, o := range []*Overlay{
		{Lower: []string{odd, lower}, Options: []string{"size=1m"}},
		{Lower: []string{odd, lower}, Upper: upper, Work: t.TempDir()},
	} {
		items := append(lookItems(t),
			Item{Path: "made", Make: MakeDirectory, Mode: 0o750},
			Item{Path: "made/tmp", Make: MakeDirectory, Mode: 0o750},
			Item{Path: "made/tmp", Mount: &Tree{Type: "tmpfs", Options: []string{"size=4k"}}},
		)
		seen, err := inRoot(t, Spec{Root: &Root{Tree: Tree{Overlay: o}, Items: items}}, "/", "/etc/name", "/made", "/made/tmp")
		if o.Upper != "" && upperRefused(t, upper, err) {
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, "top", seen["/etc/name"].Text)
		assert.Equal(t, "drwxr-x---", seen["/made"].Mode)
		assert.True(t, seen["/"].Writable)
		assert.Equal(t, 4, strings.Count(seen["mounts"].Text, "\n"), "nothing of the machine's is left: %s", seen["mounts"].Text)
		assert.NoDirExists(t, filepath.Join(lower, "made"), "nothing is written to a layer")
	}
}

// upperRefused reports whether the file system of the test's directory cannot
// hold what an overlay writes: the kernel matrix runs in a ramfs.
func upperRefused(t *testing.T, dir string, err error) bool {
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	if st.Type != unix.RAMFS_MAGIC {
		return false
	}
	assert.ErrorIs(t, err, unix.EINVAL)
	return true
}

// A link in the root, whatever it says, leads to no place outside
// (CVE-2021-30465); a link in place of a standard mount point is refused.
func TestRootLinks(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	outside := t.TempDir()
	for _, to := range []string{outside, "../../../../../../../../.." + outside, "/proc/1/root" + outside, "/proc/self/cwd", "."} {
		dir := rootDir(t)
		require.NoError(t, os.Symlink(to, filepath.Join(dir, "link")))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, outside), 0o755))
		mount := Item{Path: "link", Mount: &Tree{Type: "tmpfs", Options: []string{"size=4k"}}}
		root := &Root{Tree: Tree{Bind: dir}, Items: append(lookItems(t), mount)}
		_, err := inRoot(t, Spec{Root: root})
		assert.ErrorIs(t, err, unix.ELOOP, to)
		root.Items[2].Follow = true
		seen, err := inRoot(t, Spec{Root: root}, outside)
		switch {
		case err != nil: // /proc in there is this sandbox's own
			assert.True(t, errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT), "%s: %v", to, err)
		case to != ".":
			assert.Contains(t, seen["mounts"].Text, " "+outside+" ", "it was resolved inside: %s", to)
		}
		for _, what := range []Item{
			{Path: "link/made", Follow: true, Make: MakeDirectory, Mode: 0o755},
			{Path: "link/file", Follow: true, Make: MakeFile, Mode: 0o644},
			{Path: "link", Make: MakeFile, Mode: 0o644},
		} {
			root.Items = append(lookItems(t), what)
			_, _ = inRoot(t, Spec{Root: root})
		}
		entries, err := os.ReadDir(outside)
		require.NoError(t, err)
		assert.Empty(t, entries, to)
	}
}

// A root whose paths go up while somebody else renames files.
func TestRootRenames(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	dir, others := rootDir(t), filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "far"), 0o755))
	require.NoError(t, os.Symlink(strings.Repeat("../", 1000)+"far", filepath.Join(dir, "link")))
	require.NoError(t, os.WriteFile(others, nil, 0o600))
	var over atomic.Bool
	var renamed int
	done := make(chan error)
	go func() {
		var err error
		for ; err == nil && !over.Load(); renamed++ {
			err = errors.Join(os.Rename(others, others+"b"), os.Rename(others+"b", others))
		}
		done <- err
	}()
	mount := Item{Path: "link", Follow: true, Mount: &Tree{Type: "tmpfs", Options: []string{"size=4k"}}}
	for range 20 {
		seen, err := inRoot(t, Spec{Root: &Root{Tree: Tree{Bind: dir}, Items: append(lookItems(t), mount)}})
		if assert.NoError(t, err) {
			assert.Contains(t, seen["mounts"].Text, " /far ")
		}
	}
	over.Store(true)
	require.NoError(t, <-done)
	assert.NotZero(t, renamed)
}

// A working directory that is a descriptor of the launch (CVE-2024-21626).
func TestRootDirEscape(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	root := &Root{Tree: Tree{Bind: rootDir(t)}, Items: lookItems(t)}
	for _, dir := range []string{"/proc/self/cwd", "/proc/self/root", "/proc/self/fd/1", "/proc/self/fd/3", "/proc/self/fd/64", "/proc/self/fd/65"} {
		_, err := inRoot(t, Spec{Root: root, Dir: dir})
		assert.Error(t, err, dir)
	}
}

func TestRootUser(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	dir := rootDir(t)
	for d := dir; d != "/"; d = filepath.Dir(d) { // for the uid that is root in there
		if info, err := os.Stat(d); err == nil && info.Mode().Perm()&1 == 0 && os.Geteuid() == 0 {
			require.NoError(t, os.Chmod(d, info.Mode().Perm()|0o11))
		}
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	items := append(lookItems(t),
		Item{Path: "dev", Mount: &Tree{Type: "tmpfs", Options: []string{"mode=755", "size=64k"}}},
		Item{Path: "dev/null", Make: MakeFile, Mode: 0o666},
		Item{Path: "dev/null", Mount: &Tree{Bind: "/dev/null"}},
		Item{Path: "sys", Mount: &Tree{Type: "sysfs", Attr: unix.MOUNT_ATTR_RDONLY}},
	)
	s := Spec{
		Namespaces: NewUser | NewNet | NewIPC | NewUTS, UIDMaps: []IDMap{{0, uid, 1}}, GIDMaps: []IDMap{{0, gid, 1}},
		Root: &Root{Tree: Tree{Bind: dir}, Items: items, ReadOnly: true},
	}
	seen, err := inRoot(t, s, "/", "/dev/null", "/sys")
	require.NoError(t, err)
	assert.Equal(t, []string{"bin", "dev", "etc", "proc", "sys", "tmp"}, seen["/"].Names)
	assert.Equal(t, "Dcrw-rw-rw-", seen["/dev/null"].Mode)
	assert.NotEmpty(t, seen["/sys"].Names)
}

func TestRootRefused(t *testing.T) {
	ok := Tree{Bind: "/"}
	for _, r := range []Root{
		{},
		{Tree: Tree{Bind: "/", Type: "tmpfs"}},
		{Tree: Tree{Type: "tmpfs"}},
		{Tree: Tree{Bind: "/", Attr: 1 << 20}},
		{Tree: Tree{Bind: "/", Slave: true}},
		{Tree: Tree{FD: &File{FD: -1}}},
		{Tree: Tree{Overlay: &Overlay{}}},
		{Tree: Tree{Overlay: &Overlay{Lower: []string{"/"}, Upper: "/u"}}},
		{Tree: Tree{Bind: "/\x00"}},
		{Tree: ok, Items: []Item{{Path: ""}}},
		{Tree: ok, Items: []Item{{Path: "."}}},
		{Tree: ok, Items: []Item{{Path: "/etc"}}},
		{Tree: ok, Items: []Item{{Path: "../etc"}}},
		{Tree: ok, Items: []Item{{Path: "a/../b"}}},
		{Tree: ok, Items: []Item{{Path: "a//b"}}},
		{Tree: ok, Items: []Item{{Path: "a", Make: 9}}},
		{Tree: ok, Items: []Item{{Path: "a", Make: MakeLink}}},
		{Tree: ok, Items: []Item{{Path: "a", Mode: 1 << 15}}},
		{Tree: ok, Items: []Item{{Path: "a", Mount: &Tree{}}}},
		{Tree: ok, Items: []Item{{Path: "a", Mount: &Tree{Bind: "/"}, Attr: 1}}},
		{Tree: ok, Items: []Item{{Path: "a", Mount: &Tree{Type: "tmpfs", Options: []string{strings.Repeat("x", 256)}}}}},
	} {
		s := Spec{Path: "/x", Namespaces: NewMount, Root: &r}
		var bad *SpecError
		assert.ErrorAs(t, s.Validate(), &bad, "%+v", r)
	}
	var bad *SpecError
	s := Spec{Path: "/x", Root: &Root{Tree: ok}}
	assert.ErrorAs(t, s.Validate(), &bad, "no mount namespace")
}
