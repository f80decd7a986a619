// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// attempts are what a program in a sandbox tries to get out or to change the
// machine; each returns nil if it succeeds. None of them does harm if it does.
var attempts = map[string]func(arg string) error{
	"setns": func(string) error {
		fd, err := unix.Open("/proc/1/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWUTS)
	},
	"new user namespace": func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"mount":              func(string) error { return unix.Mount("x", "/tmp", "tmpfs", 0, "") },
	"bind":               func(string) error { return unix.Mount("/proc", "/tmp", "", unix.MS_BIND|unix.MS_REC, "") },
	"unmask":             func(string) error { return unix.Unmount("/proc/interrupts", 0) },
	"fsopen": func(string) error {
		_, err := unix.Fsopen("tmpfs", 0)
		return err
	},
	// The pid of a process outside.
	"ptrace": func(pid string) error { n, _ := strconv.Atoi(pid); return unix.PtraceAttach(n) },
	"signal": func(pid string) error { n, _ := strconv.Atoi(pid); return unix.Kill(n, 0) },
	"keyctl": func(string) error {
		_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		return err
	},
	// The id of the caller's session keyring.
	"same keyring": func(id string) error {
		own, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		if err == nil && strconv.Itoa(own) != id {
			err = errors.New("another")
		}
		return err
	},
	"abstract socket": func(name string) error { _, err := net.Dial("unix", name); return err },
	"AF_ALG":          func(string) error { return socket(unix.AF_ALG) },
	"AF_VSOCK":        func(string) error { return socket(unix.AF_VSOCK) },
	"io_uring": func(string) error {
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 0, 0, 0)
		if errno == unix.EFAULT || errno == unix.EINVAL {
			return nil // it is there, and minded its arguments
		}
		return errno
	},
	"file handle": func(string) error {
		_, err := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(1, make([]byte, 8)), 0)
		if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EINVAL) {
			return nil // as a handle it was looked at
		}
		return err
	},
	"bpf": func(string) error {
		_, _, errno := unix.Syscall(unix.SYS_BPF, 0xffff, 0, 0)
		if errno == unix.EINVAL {
			return nil
		}
		return errno
	},
	// A device of the machine's memory or first disk, wherever one can be made.
	"device": func(dir string) error {
		at := dir + "/device"
		if err := unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err != nil {
			return fmt.Errorf("make it: %w", err)
		}
		f, err := os.Open(at)
		_ = f.Close()
		return err
	},
	"write":    func(path string) error { f, err := os.OpenFile(path, os.O_WRONLY, 0); _ = f.Close(); return err },
	"execute":  func(path string) error { return unix.Exec(path, []string{path, "nothing"}, nil) },
	"make":     func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"project":  leaveProject,
	"truncate": func(path string) error { return os.Truncate(path, 0) },
	"list": func(path string) error {
		_, err := os.ReadDir(path)
		return err
	},
	"rename": func(paths string) error {
		from, to, _ := strings.Cut(paths, ":")
		return os.Rename(from, to)
	},
	"setuid": func(uid string) error { n, _ := strconv.Atoi(uid); return unix.Setuid(n) },
	// Out of a root that was only changed into.
	"chroot": func(string) error {
		if err := errors.Join(os.MkdirAll("/tmp/jail", 0o755), unix.Chroot("/tmp/jail")); err != nil {
			return err
		}
		for range 64 {
			_ = os.Chdir("..")
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		if _, err := os.Stat("/bin/test"); err == nil {
			return errors.New("back in the sandbox's own root")
		}
		return nil
	},
	"descriptors": func(string) error {
		for _, fd := range names("/proc/self/fd") {
			to, err := os.Readlink("/proc/self/fd/" + fd)
			if err != nil || to == "/dev/null" || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/proc/") {
				continue
			}
			if n, _ := strconv.Atoi(fd); n != 2 { // the test's own
				return nil
			}
		}
		return errors.New("none that was not given")
	},
	"working directory": func(string) error {
		for _, p := range []string{".", "..", "../../..", "/proc/self/cwd/.."} {
			var here, root unix.Stat_t
			if err := errors.Join(unix.Stat(p, &here), unix.Stat("/", &root)); err != nil {
				return err
			}
			if here.Ino != root.Ino || here.Dev != root.Dev {
				return nil
			}
		}
		return errors.New("it is the root")
	},
	"cgroupfs": func(string) error {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err == nil && !strings.Contains(string(mounts), "cgroup") {
			err = errors.New("none is mounted")
		}
		return err
	},
	"processes": func(string) error {
		for _, name := range names("/proc") {
			if n, err := strconv.Atoi(name); err == nil && n != os.Getpid() {
				return nil
			}
		}
		return errors.New("only this one")
	},
	"read": func(path string) error {
		text, err := os.ReadFile(path)
		if err == nil && len(text) == 0 {
			err = errors.New("empty")
		}
		return err
	},
}

func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func socket(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // the family was looked for
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// childEscape makes the attempts that it is given, "name" or "name=argument", and
// prints how each failed.
func childEscape(args []string) int {
	results := map[string]string{}
	for _, a := range args {
		name, arg, _ := strings.Cut(a, "=")
		if err := attempts[name](arg); err != nil {
			results[a] = err.Error()
		} else {
			results[a] = "succeeded"
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(results)
	return 0
}

// attempt makes attempts in a sandbox and returns how each failed.
func attempt(t *testing.T, h *isolation.Host, id string, change func(*isolation.Spec), what ...string) map[string]string {
	t.Helper()
	s := inRoot(t, spec(t, id, "escape", what...), isolation.Root{Layers: []string{image(t)}, Volumes: []isolation.Volume{{Target: "/vol"}}})
	if change != nil {
		change(&s)
	}
	r, err := tryRun(t, create(t, h, s))
	if s.Namespaces.User != isolation.NamespaceHost && errors.Is(err, isolation.ErrNotSupported) {
		testutil.Skip(t, "overlay.user", "%v", err)
	}
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	var results map[string]string
	require.NoError(t, json.Unmarshal(out, &results), "%s", out)
	require.Len(t, results, len(what))
	return results
}

const succeeded = "succeeded"

// weak is a spec without what a test is about.
func weak(s *isolation.Spec) {
	s.Process.Capabilities = []string{isolation.AllCapabilities}
	s.Security.Seccomp, s.Security.Keyring, s.Security.Landlock = isolation.Off, isolation.Off, isolation.Off
	s.Root.Masked, s.Root.Guarded = []string{}, []string{}
}

// TestEscape: nothing of this succeeds by default, as root without a user
// namespace; all of it that can be told apart does where isolation is weakened
// (faults 57, 58 and 62).
func TestEscape(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	outside := strconv.Itoa(os.Getpid())
	both := []string{
		"setns", "new user namespace", "mount", "fsopen", "bind", "keyctl", "AF_ALG", "AF_VSOCK", "file handle", "bpf",
		"read=/proc/interrupts", "write=/proc/sys/kernel/core_pattern", "write=/proc/sys/vm/overcommit_memory",
		"write=/proc/sys/kernel/modprobe",
	}
	if _, err := os.Stat("/proc/sysrq-trigger"); err == nil {
		both = append(both, "write=/proc/sysrq-trigger")
	}
	always := []string{
		"ptrace=" + outside, "signal=" + outside, "device=/", "device=/dev", "device=/dev/shm", "device=/vol", "unmask",
		"descriptors", "working directory", "cgroupfs", "processes", "io_uring", "write=/sys/kernel/uevent_helper",
		"write=/sys/fs/cgroup/cgroup.procs", "chroot",
	}
	for name, result := range attempt(t, h, "strong", nil, append(both, always...)...) {
		assert.NotEqual(t, succeeded, result, name)
	}
	// Unshare first would leave the rest in another user namespace.
	weakened := attempt(t, h, "weak", weak, append(both[:1:1], both[2:]...)...)
	for name, result := range weakened {
		switch name {
		case "keyctl", "AF_VSOCK", "AF_ALG", "write=/proc/sys/kernel/modprobe": // options of the kernel
			continue
		}
		assert.Equal(t, succeeded, result, name)
	}
}

// TestEscapeUser: the same as root of a user namespace, who is nobody outside.
func TestEscapeUser(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	h := open(t)
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("x"), 0o600))
	results := attempt(t, h, "mapped", func(s *isolation.Spec) {
		s.Namespaces.User, s.Namespaces.Network = isolation.NamespaceNew, isolation.NamespaceNew
		s.Namespaces.UIDMap, s.Namespaces.GIDMap = ids, ids
		s.Root.Volumes = append(s.Root.Volumes, isolation.Volume{Target: "/secret", Source: secret})
		weak(s) // the namespace alone holds this
	}, "read=/secret", "write=/secret", "write=/proc/sys/kernel/core_pattern", "write=/proc/sys/vm/overcommit_memory",
		"device=/vol", "device=/dev", "signal="+strconv.Itoa(os.Getpid()), "setuid=1000", "setuid=70000")
	for name, result := range results {
		assert.NotEqual(t, succeeded, result, name)
	}
	assert.Equal(t, unix.EINVAL.Error(), results["setuid=70000"], "uid 0 outside, and all others, have no number inside")
}

func TestEscapeKeyring(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	// Of whichever thread: the process's other threads have the same one.
	own, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		testutil.Skip(t, "keyrings", "%v", err)
	}
	same := fmt.Sprintf("same keyring=%d", own)
	results := attempt(t, h, "own", func(s *isolation.Spec) { s.Security.Seccomp = isolation.Off }, same)
	assert.Equal(t, "another", results[same])
	assert.Equal(t, succeeded, attempt(t, h, "shared", weak, same)[same])
}

func TestEscapeAbstractSocket(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	name := fmt.Sprintf("@caisson-%s-%d", t.Name(), os.Getpid())
	l, err := net.Listen("unix", name)
	require.NoError(t, err)
	defer l.Close()
	what := "abstract socket=" + name
	results := attempt(t, h, "net", func(s *isolation.Spec) { s.Namespaces.Network = isolation.NamespaceNew }, what)
	assert.NotEqual(t, succeeded, results[what])
	assert.Equal(t, succeeded, attempt(t, h, "shared", weak, what)[what])
	if launch.Landlock() < 6 {
		return // Protections says so: see TestProtections
	}
	assert.NotEqual(t, succeeded, attempt(t, h, "host", nil, what)[what])
}

// TestEscapeImage: what a hostile image can hold in place of mount points and
// devices (fault 58, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579).
func TestEscapeImage(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	for i, c := range []struct{ name, to string }{
		{"proc", "/etc"}, {"dev", "/proc/self/root"}, {"sys", "../../.."}, {"dev", "/tmp"},
	} {
		dir := image(t)
		require.NoError(t, os.Remove(filepath.Join(dir, c.name)))
		require.NoError(t, os.Symlink(c.to, filepath.Join(dir, c.name)))
		for _, root := range []isolation.Root{{Path: dir}, {Layers: []string{dir}}} {
			box, err := h.Create(deadline(t), inRoot(t, spec(t, fmt.Sprintf("link%d%d", i, len(root.Layers)), "exit", "0"), root))
			if errors.Is(err, isolation.ErrInvalid) {
				continue // inside the root the link leads nowhere
			}
			require.NoError(t, err)
			err = box.Start(deadline(t))
			assert.Truef(t, errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR), "%s -> %s: %v", c.name, c.to, err)
		}
	}
	// /dev is the sandbox's own, and what masks is the machine's.
	dir := image(t)
	require.NoError(t, os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dir, "dev/null")))
	require.NoError(t, os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dir, "dev/console")))
	found := looked(t, create(t, h, inRoot(t, spec(t, "null", "look", "/dev/null", "/dev/console", "/proc/interrupts"), isolation.Root{Layers: []string{dir}})))
	assert.Equal(t, "Dcrw-rw-rw-", found["/dev/null"].Mode)
	assert.Equal(t, "Dcrw-rw-rw-", found["/proc/interrupts"].Mode)
	assert.Empty(t, found["/dev/console"].Mode)
}

// TestEscapeDirectory: a working directory by way of a descriptor of the launch
// (fault 56, CVE-2024-21626).
func TestEscapeDirectory(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	layer := image(t)
	for fd := range 104 {
		if fd > 8 && fd < 94 { // the root is assembled from 96 on
			continue
		}
		s := inRoot(t, spec(t, fmt.Sprintf("fd%d", fd), "exit", "0"), isolation.Root{Layers: []string{layer}})
		s.Process.Dir = fmt.Sprintf("/proc/self/fd/%d", fd)
		box := create(t, h, s)
		assert.Error(t, box.Start(deadline(t)), "%d", fd)
		require.NoError(t, box.Destroy(deadline(t)))
	}
}

// TestEscapeFiles: root of a sandbox, with all capabilities, can do with files what the
// rules say and nothing else, also by way of links, as a process that comes later too.
func TestEscapeFiles(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	version := launch.Landlock()
	if version < 1 {
		s := spec(t, "none", "wait")
		s.Security.Files = []isolation.FileRule{{Path: "/", Access: isolation.FileRead}}
		_, err := h.Create(deadline(t), s)
		require.ErrorIs(t, err, isolation.ErrNotSupported)
		testutil.Skip(t, "landlock", "version %d", version)
	}
	dir, vol := image(t), t.TempDir()
	for _, p := range []string{"etc/secret", "etc/public", "bin/other"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, p), []byte("x"), 0o644))
	}
	require.NoError(t, os.Symlink("/etc/secret", filepath.Join(dir, "bin/link")))
	require.NoError(t, os.WriteFile(filepath.Join(vol, "old"), []byte("x"), 0o755))
	require.NoError(t, os.Symlink("/etc/secret", filepath.Join(vol, "link")))
	held := []string{
		"read=/etc/secret", "read=/bin/link", "read=/vol/link", "write=/etc/public", "write=/bin/other", "make=/tmp/new", "make=/bin/new",
		"list=/etc", "list=/", "read=/proc/version", "write=/dev/null", "execute=/vol/old", "rename=/vol/old:/etc/old",
		"rename=/etc/public:/etc/other", "mount",
	}
	if version >= 3 {
		held = append(held, "truncate=/etc/public")
	}
	allowed := []string{"read=/etc/public", "list=/vol", "read=/vol/old", "make=/vol/new", "write=/vol/new", "truncate=/vol/new", "rename=/vol/new:/vol/newer"}
	ruled := func(s *isolation.Spec) {
		weak(s)
		s.Root.Volumes[1] = isolation.Volume{Target: "/vol", Source: vol}
		s.Root.Layers = []string{dir}
		s.Security.Landlock = isolation.Default
		s.Security.Files = []isolation.FileRule{
			{Path: "/bin", Access: isolation.FileRead | isolation.FileExecute}, {Path: "/etc/public", Access: isolation.FileRead},
			{Path: "/vol", Access: isolation.FileRead | isolation.FileWrite},
		}
	}
	all := append(held, allowed...)
	results := attempt(t, h, "ruled", ruled, all...)
	assert.Equal(t, unix.EACCES.Error(), results["execute=/vol/old"], "and not that it is no program")
	for name, result := range results {
		if slices.Contains(allowed, name) {
			assert.Equal(t, succeeded, result, name)
		} else {
			assert.NotEqual(t, succeeded, result, name)
		}
	}
	// The same without rules, so that it can tell; what it executes does not come back.
	for name, result := range attempt(t, h, "free", func(s *isolation.Spec) { ruled(s); s.Security.Files = nil },
		"read=/etc/secret", "read=/etc/public", "write=/etc/public", "write=/bin/other", "make=/bin/new", "make=/tmp/new", "list=/etc", "list=/",
		"read=/proc/version", "write=/dev/null", "rename=/etc/public:/etc/other", "truncate=/etc/other", "mount") {
		assert.Equal(t, succeeded, result, name)
	}
	// By Exec, and with the defaults of a sandbox around them.
	s := inRoot(t, spec(t, "later", "wait"), isolation.Root{Volumes: []isolation.Volume{{}}})
	ruled(&s)
	s.Security, s.Process.Capabilities = isolation.Security{Files: s.Security.Files}, nil
	s.Root.Masked, s.Root.Guarded = nil, nil
	box := waits(t, h, s)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p := isolation.Process{Args: append([]string{"/bin/test"}, testutil.ChildArgs(t, "escape", "read=/etc/secret", "read=/etc/public")[1:]...)}
	_, err = box.Exec(deadline(t), p, nil, w, os.Stderr)
	require.NoError(t, errors.Join(err, w.Close()))
	clear(results)
	require.NoError(t, json.NewDecoder(r).Decode(&results))
	assert.NotEqual(t, succeeded, results["read=/etc/secret"])
	assert.Equal(t, succeeded, results["read=/etc/public"])
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, version < 5, len(st.Missing) > 0, "%s", st.Missing)
	for _, p := range box.Spec().Protections() {
		if p.Name == "file rules" {
			assert.True(t, p.InForce, "%s", p)
			assert.Equal(t, version < 3, strings.Contains(p.Why, "truncate"), "%s", p)
		}
	}

	s.ID, s.Security.Files[1].Path = "absent", "/etc/absent"
	require.ErrorIs(t, create(t, h, s).Start(deadline(t)), os.ErrNotExist)
	for _, bad := range []isolation.FileRule{{Path: "/"}, {Path: "etc", Access: isolation.FileRead}, {Path: "/a/../b", Access: isolation.FileRead}, {Path: "/", Access: 8}} {
		s.Security.Files[1] = bad
		require.ErrorIs(t, s.Validate(), isolation.ErrInvalid, "%v", bad)
	}
}

func TestProtections(t *testing.T) {
	shared := isolation.Spec{ID: "x"}.Protections()
	own := isolation.Spec{ID: "x", Root: isolation.Root{Path: "/image"}}.Protections()
	require.Len(t, own, len(shared))
	inForce := func(list []isolation.Protection, name string) bool {
		for _, p := range list {
			require.NotEmpty(t, p.Name)
			if p.Name == name {
				require.True(t, p.InForce || p.Why != "", "%s", p)
				return p.InForce
			}
		}
		t.Fatalf("no %q", name)
		return false
	}
	for _, name := range []string{"root", "seccomp", "keyring", "masked paths", "read-only paths", "devices"} {
		assert.True(t, inForce(own, name), name)
		assert.False(t, inForce(shared, name), name)
	}
	assert.True(t, inForce(shared, "no_new_privs"))
	assert.True(t, inForce(shared, "pid namespace"))
	assert.False(t, inForce(shared, "user namespace"))
	assert.Equal(t, launch.Landlock() >= 6, inForce(own, "landlock"))
	assert.False(t, inForce(isolation.Spec{Root: isolation.Root{Path: "/x"}, Security: isolation.Security{Seccomp: isolation.Off}}.Protections(), "seccomp"))
}
