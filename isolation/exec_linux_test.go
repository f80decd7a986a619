// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// view is where a process finds itself.
type view struct {
	PID, Parent int
	UID         int
	Dir, Host   string
	Namespaces  map[string]string
	Cgroup      string
	Status      map[string]string
	Session     bool // it has a controlling terminal
	Columns     int
	Up          time.Duration // CLOCK_BOOTTIME
	Denied      string        // why it cannot open its standard output again
}

func childView([]string) int {
	v := view{PID: os.Getpid(), Parent: os.Getppid(), UID: os.Getuid(), Namespaces: map[string]string{}, Status: map[string]string{}}
	v.Dir, _ = os.Getwd()
	v.Host, _ = os.Hostname()
	for k := range namespaces.AllKinds.All() {
		v.Namespaces[k.String()], _ = os.Readlink("/proc/self/ns/" + k.String())
	}
	text, _ := os.ReadFile("/proc/self/cgroup")
	v.Cgroup = string(text)
	text, _ = os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		v.Status[key] = strings.TrimSpace(value)
	}
	if tty, err := os.Open("/dev/tty"); err == nil {
		v.Session = true
		_ = tty.Close()
	}
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		v.Columns = int(size.Col)
	}
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	v.Up = time.Duration(up.Nano())
	out, err := os.OpenFile("/proc/self/fd/1", os.O_WRONLY, 0)
	if err != nil {
		v.Denied, out = err.Error(), os.Stdout
	}
	_ = json.NewEncoder(out).Encode(v)
	return 0
}

// viewed runs the child "view" in the sandbox by Exec.
func viewed(t *testing.T, box *isolation.Sandbox, p isolation.Process) (view, *isolation.Exec) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	e, err := box.Exec(deadline(t), p, nil, w, os.Stderr)
	require.NoError(t, w.Close())
	if os.Geteuid() != 0 && errors.Is(err, isolation.ErrNotSupported) {
		testutil.Skip(t, "exec.user", "%v", err)
	}
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	st, err := e.Wait(deadline(t))
	require.NoError(t, err)
	require.Zero(t, st.Code, "%s", out)
	var v view
	require.NoError(t, json.Unmarshal(out, &v), "%s", out)
	return v, e
}

// waits is the spec's sandbox with its child "wait" running.
func waits(t *testing.T, h *isolation.Host, s isolation.Spec) *isolation.Sandbox {
	t.Helper()
	box := create(t, h, s)
	line := make([]byte, len("ready\n"))
	_, err := io.ReadFull(run(t, box), line)
	require.NoError(t, err)
	return box
}

func TestExec(t *testing.T) { testExec(t, config(t)) }

func TestExecSupervised(t *testing.T) { testExec(t, supervisedConfig(t)) }

func testExec(t *testing.T, cfg isolation.Config) {
	testutil.CheckLeaks(t)
	h := openWith(t, cfg)
	for _, root := range []bool{false, true} {
		s := spec(t, fmt.Sprintf("exec-%v", root), "wait")
		s.Resources.Memory.OOMGroup = cgroups.On
		if !h.Root().Controllers().Has(cgroups.ControllerMemory) || h.Root().Mode() != cgroups.Unified {
			s.Resources = cgroups.Resources{}
		}
		p := isolation.Process{Args: testutil.ChildArgs(t, "view"), Dir: "/tmp"}
		if root {
			s = inRoot(t, s, isolation.Root{Layers: []string{image(t)}})
			p.Args[0], p.User = "test", isolation.User{UID: 7, GID: 8}
		}
		box := waits(t, h, s)
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		first := func(kind string) string {
			id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", st.PID, kind))
			require.NoError(t, err)
			return id
		}
		v, e := viewed(t, box, p)
		assert.NotEqual(t, e.PID(), v.PID)
		assert.Less(t, v.PID, 100, "a number of the sandbox's")
		assert.Equal(t, int(p.User.UID), v.UID)
		assert.Equal(t, "/tmp", v.Dir)
		assert.Equal(t, s.ID, v.Host)
		assert.Equal(t, "1", v.Status["NoNewPrivs"])
		assert.Equal(t, map[bool]string{false: "0", true: "2"}[root], v.Status["Seccomp"])
		for kind, id := range v.Namespaces {
			if kind != "time" { // which a kernel may lack
				assert.Equal(t, first(kind), id, kind)
			}
		}
		for line := range strings.Lines(v.Cgroup) {
			assert.NotContains(t, line, "/../", "it is in the group: %s", line)
		}
		after, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, 1, after.PIDs, "it has ended")
		assert.Empty(t, after.Drift)
	}
}

func TestExecEnds(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	box := waits(t, h, spec(t, "ends", "wait"))
	long := isolation.Process{Args: testutil.ChildArgs(t, "wait")}
	killed, err := box.Exec(deadline(t), long)
	require.NoError(t, err)
	require.NoError(t, killed.Signal(syscall.SIGKILL))
	st, err := killed.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 9, st.Signal)
	assert.ErrorIs(t, killed.Signal(syscall.SIGKILL), isolation.ErrState)
	coded, err := box.Exec(deadline(t), isolation.Process{Args: testutil.ChildArgs(t, "exit", "42")})
	require.NoError(t, err)
	st, err = coded.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 42, st.Code)

	for _, p := range []isolation.Process{{}, {Args: []string{"/x"}, Dir: "rel"}} {
		_, err = box.Exec(deadline(t), p)
		assert.ErrorIs(t, err, isolation.ErrInvalid)
	}
	_, err = box.Exec(deadline(t), isolation.Process{Args: []string{"no-such-program"}})
	assert.ErrorIs(t, err, os.ErrNotExist)

	if err := box.Freeze(deadline(t)); err == nil {
		_, err = box.Exec(deadline(t), long)
		assert.ErrorIs(t, err, isolation.ErrState)
		require.NoError(t, box.Thaw(deadline(t)))
	}
	left, err := box.Exec(deadline(t), long)
	require.NoError(t, err)
	require.NoError(t, box.Destroy(deadline(t)))
	st, err = left.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 9, st.Signal, "it ends with the sandbox")
	_, err = box.Exec(deadline(t), long)
	assert.ErrorIs(t, err, isolation.ErrNotFound)

	created := create(t, h, spec(t, "created", "wait"))
	_, err = created.Exec(deadline(t), long)
	assert.ErrorIs(t, err, isolation.ErrState)
}

func TestExecUserNamespace(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	h := open(t)
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	s := inRoot(t, spec(t, "mapped", "wait"), isolation.Root{Layers: []string{image(t)}})
	s.Namespaces.User, s.Namespaces.Network = isolation.NamespaceNew, isolation.NamespaceNew
	s.Namespaces.UIDMap, s.Namespaces.GIDMap = ids, ids
	if !userOverlay(t) {
		s.Root.Path, s.Root.Layers = s.Root.Layers[0], nil
	}
	box := waits(t, h, s)
	p := isolation.Process{Args: append([]string{"/bin/test"}, testutil.ChildArgs(t, "view")[1:]...), User: isolation.User{UID: 5, GID: 5}}
	v, e := viewed(t, box, p)
	assert.Equal(t, 5, v.UID)
	assert.NotZero(t, e.PID())
	assert.Empty(t, v.Denied, "a pipe of the machine's root")
	term, err := isolation.NewTerminal()
	require.NoError(t, err)
	defer term.Close()
	p.Terminal = true
	_, err = box.Exec(deadline(t), p, term.TTY(), term.TTY(), term.TTY())
	require.NoError(t, err)
	require.NoError(t, term.Started())
	v = view{}
	require.NoError(t, json.NewDecoder(term).Decode(&v))
	assert.Equal(t, 5, v.UID)
	assert.Empty(t, v.Denied, "a terminal of the machine's root")
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	user, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", st.PID))
	require.NoError(t, err)
	assert.Equal(t, user, v.Namespaces["user"])
}

// userOverlay reports whether an overlay may be mounted in a user namespace.
func userOverlay(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	return !strings.HasPrefix(string(text), "5.10.")
}

// TestExecEscape: a program inside that begins with "#!/proc/self/exe" runs
// nothing of the machine's (fault 57, CVE-2019-5736), and neither does one by descriptor.
func TestExecEscape(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	dir := image(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/script"), []byte("#!/proc/self/exe\n"), 0o755))
	require.NoError(t, os.Symlink("/proc/self/exe", filepath.Join(dir, "bin/link")))
	box := waits(t, h, inRoot(t, spec(t, "script", "wait"), isolation.Root{Layers: []string{dir}}))
	for _, path := range []string{"/bin/script", "/bin/link", "/proc/self/exe"} {
		e, err := box.Exec(deadline(t), isolation.Process{Args: append([]string{path}, testutil.ChildArgs(t, "exit", "42")[1:]...)})
		if err != nil {
			continue
		}
		st, err := e.Wait(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, 127, st.Code, "%s: the stub, which does nothing", path)

		s := inRoot(t, spec(t, "first", "wait"), isolation.Root{Layers: []string{dir}})
		s.Process.Args = append([]string{path}, testutil.ChildArgs(t, "exit", "42")[1:]...)
		first := create(t, h, s)
		if err := first.Start(deadline(t)); err == nil {
			st, err = first.Wait(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, 127, st.Code, path)
		}
		require.NoError(t, first.Destroy(deadline(t)))
	}
	for fd := range 8 {
		_, err := box.Exec(deadline(t), isolation.Process{Args: []string{"/bin/test"}, Dir: fmt.Sprintf("/proc/self/fd/%d", fd)})
		assert.Error(t, err, "a working directory by descriptor %d", fd)
	}
}

func TestReaper(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	s := inRoot(t, spec(t, "reaper", "view"), isolation.Root{Layers: []string{image(t)}})
	s.Process.Reaper = true
	box := create(t, h, s)
	var v view
	require.NoError(t, json.NewDecoder(run(t, box)).Decode(&v))
	assert.Equal(t, 1, v.Parent)
	assert.NotEqual(t, 1, v.PID)
	st, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.Zero(t, st.Code)

	s = spec(t, "signalled", "wait")
	s.Process.Reaper = true
	box = waits(t, h, s)
	require.NoError(t, box.Signal(deadline(t), syscall.SIGTERM), "the first process of a namespace would not hear it")
	st, err = box.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 128+15, st.Code)
	s.Namespaces.PID = isolation.NamespaceHost
	assert.ErrorIs(t, s.Validate(), isolation.ErrInvalid)
}

func TestTerminal(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	term, err := isolation.NewTerminal()
	require.NoError(t, err)
	defer term.Close()
	require.NoError(t, term.Resize(24, 132))
	s := spec(t, "terminal", "view")
	s.Process.Terminal = true
	box := create(t, h, s)
	require.NoError(t, box.Start(deadline(t), term.TTY(), term.TTY(), term.TTY()))
	require.NoError(t, term.Started())
	var v view
	require.NoError(t, json.NewDecoder(term).Decode(&v))
	assert.True(t, v.Session, "it is the controlling terminal")
	assert.Equal(t, 132, v.Columns)
	_, err = box.Wait(deadline(t))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, term)
	require.NoError(t, err, "nobody has the other end any more")
	assert.Nil(t, term.TTY())
	assert.ErrorIs(t, term.Resize(-1, 0), isolation.ErrInvalid)

	behind, err := isolation.NewTerminal()
	require.NoError(t, err)
	defer behind.Close()
	require.NoError(t, behind.ResizeLike(term.PTY()))
	size, err := unix.IoctlGetWinsize(int(behind.TTY().Fd()), unix.TIOCGWINSZ)
	require.NoError(t, err)
	assert.Equal(t, 132, int(size.Col))
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	require.NoError(t, behind.ResizeLike(null), "it is no terminal")
	_, err = isolation.MakeRaw(null)
	assert.ErrorIs(t, err, unix.ENOTTY)
	restore, err := isolation.MakeRaw(behind.TTY())
	require.NoError(t, err)
	mode := func() uint32 {
		now, err := unix.IoctlGetTermios(int(behind.TTY().Fd()), unix.TCGETS)
		require.NoError(t, err)
		return now.Lflag & (unix.ECHO | unix.ICANON | unix.ISIG)
	}
	assert.Zero(t, mode())
	require.NoError(t, restore())
	assert.Equal(t, uint32(unix.ECHO|unix.ICANON|unix.ISIG), mode())
	require.NoError(t, term.Close())
	require.NoError(t, term.Close())
}

// TestTimeNamespace: the clocks of a sandbox are ahead of the machine's by what its
// spec says, for the first process and for those that come later.
func TestTimeNamespace(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	s := inRoot(t, spec(t, "later", "view"), isolation.Root{Layers: []string{image(t)}, Bare: true})
	s.Namespaces.Time, s.Namespaces.Boottime, s.Namespaces.Monotonic = isolation.NamespaceNew, 1000*time.Hour, time.Hour
	box := create(t, h, s)
	r, err := tryRun(t, box)
	release, rerr := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, rerr)
	for _, old := range []string{"5.", "6.0", "6.1."} {
		if strings.HasPrefix(string(release), old) {
			require.ErrorIs(t, err, isolation.ErrNotSupported, "Linux 6.2")
			return
		}
	}
	require.NoError(t, err)
	ahead := func(v view) {
		var up unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &up))
		assert.InDelta(t, (1000 * time.Hour).Hours(), (v.Up - time.Duration(up.Nano())).Hours(), 0.5)
	}
	var v view
	require.NoError(t, json.NewDecoder(r).Decode(&v))
	ahead(v)
	s.ID, s.Process.Args = "now", append([]string{"/bin/test"}, testutil.ChildArgs(t, "wait")[1:]...)
	p := isolation.Process{Args: append([]string{"/bin/test"}, testutil.ChildArgs(t, "view")[1:]...)}
	v, _ = viewed(t, waits(t, h, s), p)
	ahead(v)

	s.Namespaces.Time = isolation.NamespaceHost
	require.ErrorIs(t, s.Validate(), isolation.ErrInvalid)
}
