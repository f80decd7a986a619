// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// childTrace traces a process until it is killed.
func childTrace(args []string) int {
	pid, _ := strconv.Atoi(args[0])
	// The tracer is a thread, and has to live on as such.
	done := make(chan int)
	go func() {
		if err := unix.PtraceSeize(pid); err != nil {
			fmt.Println(err)
			done <- 1
		}
		fmt.Println("traced")
		pause()
	}()
	return <-done
}

// TestDestroyTraced: a process that another one traces dies all the same, and is
// reaped once the tracer lets it be (fault 24).
func TestDestroyTraced(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	box := started(t, h, spec(t, "traced", "wait"))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	tracer := testutil.Child(t, "trace", strconv.Itoa(st.PID))
	out, err := tracer.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, tracer.Start())
	line := make([]byte, len("traced\n"))
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	require.Equal(t, "traced\n", string(line))

	require.NoError(t, box.Destroy(deadline(t)))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.PID))
	if err == nil { // as long as its tracer has not heard of it
		assert.Contains(t, string(stat), ") Z ")
	}
	require.NoError(t, tracer.Process.Kill())
	_ = tracer.Wait()
	assert.Eventually(t, func() bool { return errors.Is(syscall.Kill(st.PID, 0), syscall.ESRCH) },
		testutil.Patience(20*time.Second), 5*time.Millisecond, "it is left as a zombie")
}

// childFill writes into a file until the kernel refuses.
func childFill(args []string) int {
	f, err := os.Create(args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer f.Close()
	block, total := make([]byte, 64<<10), 0
	for total < 256<<20 && err == nil {
		n := 0
		n, err = f.Write(block)
		total += n
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"written": total, "full": errors.Is(err, syscall.ENOSPC)})
	return 0
}

// TestRootSize: what a sandbox may write to memory ends where the spec says.
func TestRootSize(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	const size = 4 << 20
	for path, root := range map[string]isolation.Root{
		"/file":     {Size: size},
		"/vol/file": {Volumes: []isolation.Volume{{Target: "/vol", Size: size}}},
	} {
		root.Layers = []string{image(t)}
		r := run(t, create(t, h, inRoot(t, spec(t, "size"+strings.ReplaceAll(path, "/", "-"), "fill", path), root)))
		var got struct {
			Written int
			Full    bool
		}
		require.NoError(t, json.NewDecoder(r).Decode(&got))
		assert.True(t, got.Full, path)
		assert.LessOrEqual(t, got.Written, size, path)
		assert.Greater(t, got.Written, size/2, path)
	}
}

// TestVolumeSlave: what the machine mounts below a volume later is there inside if
// the volume says so, and gone when it is unmounted; otherwise it never comes.
func TestVolumeSlave(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	share := t.TempDir()
	require.NoError(t, os.Mkdir(share+"/sub", 0o755))
	require.NoError(t, unix.Mount(share, share, "", unix.MS_BIND, ""))
	defer func() { assert.NoError(t, unix.Unmount(share, unix.MNT_DETACH)) }()
	require.NoError(t, unix.Mount("", share, "", unix.MS_SHARED, ""))
	s := inRoot(t, spec(t, "slave", "wait"), isolation.Root{Layers: []string{image(t)}, Volumes: []isolation.Volume{
		{Target: "/slave", Source: share, Slave: true}, {Target: "/private", Source: share},
	}})
	box := waits(t, h, s)
	names := func() (slave, private []string) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		_, err = box.Exec(deadline(t), isolation.Process{Args: append([]string{"/bin/test"}, testutil.ChildArgs(t, "look", "/slave/sub", "/private/sub")[1:]...)}, nil, w)
		require.NoError(t, errors.Join(err, w.Close()))
		var found map[string]seen
		require.NoError(t, json.NewDecoder(r).Decode(&found))
		for _, dir := range []string{"/sub/made"} { // by the child itself
			_ = os.Remove(share + dir)
		}
		return found["/slave/sub"].Names, found["/private/sub"].Names
	}
	require.NoError(t, unix.Mount("later", share+"/sub", "tmpfs", 0, "size=64k"))
	require.NoError(t, os.WriteFile(share+"/sub/later", nil, 0o644))
	slave, private := names()
	assert.Contains(t, slave, "later")
	assert.NotContains(t, private, "later")
	require.NoError(t, unix.Unmount(share+"/sub", 0), "nobody keeps it")
	slave, _ = names()
	assert.NotContains(t, slave, "later")
}

// coreCookie is a process's for core scheduling.
func coreCookie(pid int) (cookie uint64, err error) {
	const get, process = 0, 0 // PR_SCHED_CORE_GET, PIDTYPE_PID
	_, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SCHED_CORE, get, uintptr(pid), process, uintptr(unsafe.Pointer(&cookie)), 0)
	if errno != 0 {
		return 0, errno
	}
	return cookie, nil
}

// TestCoreScheduling: each sandbox that asks for it has a cookie of its own; where
// the kernel has none, Check says so.
func TestCoreScheduling(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	seen := map[uint64]bool{}
	for i := range 2 {
		s := spec(t, fmt.Sprintf("core%d", i), "wait")
		s.Process.Scheduling.Core = true
		box := started(t, h, s)
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		cookie, err := coreCookie(st.PID)
		if err != nil || cookie == 0 {
			assert.Contains(t, strings.Join(st.Missing, "\n"), "PR_SCHED_CORE", "%v", err)
			continue
		}
		assert.Empty(t, st.Missing)
		assert.False(t, seen[cookie], "shared with another sandbox")
		seen[cookie] = true
	}
	if own, err := coreCookie(0); err == nil {
		assert.False(t, seen[own], "shared with the agent")
	}
}

// TestEscapeRace: somebody exchanges mount points in an image for links while
// sandboxes are made of it (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881,
// CVE-2021-30465). A start may fail; one that does not has everything in place
// (faults 58 and 62).
func TestEscapeRace(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	dir, victim := image(t), t.TempDir()
	links := map[string]string{"proc": "/etc", "dev": "/proc/sys/kernel", "sys": "../../../../..", "vol": victim, "etc": "/proc/self/root" + victim}
	require.NoError(t, os.Mkdir(dir+"/vol", 0o755))
	for name, to := range links {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, name+".link")))
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	for name := range links {
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, name), unix.AT_FDCWD, filepath.Join(dir, name+".link"), unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	made, failed := 0, 0
	for end := time.Now().Add(600 * time.Millisecond); time.Now().Before(end); {
		root := isolation.Root{Path: dir, Volumes: []isolation.Volume{{Target: "/vol", Size: 1 << 16}}}
		if (made+failed)%2 == 0 {
			root.Path, root.Layers = "", []string{dir}
		}
		s := inRoot(t, spec(t, "raced", "look", "/dev/null", "/proc/self/comm", "/proc/interrupts", "/proc/sys/kernel/core_pattern"), root)
		box, err := h.Create(deadline(t), s)
		if errors.Is(err, isolation.ErrInvalid) {
			failed++
			continue
		}
		require.NoError(t, err)
		r, err := tryRun(t, box)
		if err != nil {
			failed++
		} else {
			// A directory that was exchanged later has nothing in it.
			var found map[string]seen
			require.NoError(t, json.NewDecoder(r).Decode(&found))
			made++
			for path, want := range map[string]string{"/dev/null": "Dcrw-rw-rw-", "/proc/interrupts": "Dcrw-rw-rw-"} {
				if found[path].Mode != "" {
					assert.Equal(t, want, found[path].Mode, path)
				}
			}
			if found["/proc/sys/kernel/core_pattern"].Mode != "" {
				assert.NotEmpty(t, found["/proc/sys/kernel/core_pattern"].Write, "guarded")
			}
			if found["/proc/self/comm"].Mode != "" {
				assert.Equal(t, "test\n", found["/proc/self/comm"].Text)
			}
		}
		_ = r.Close()
		require.NoError(t, box.Destroy(deadline(t)))
	}
	close(stop)
	swapping.Wait()
	t.Logf("%d sandboxes made, %d refused", made, failed)
	assert.NotZero(t, made+failed)
	left, err := os.ReadDir(victim)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestEscapeControls: what TestEscape tries in vain succeeds once the one thing
// that stops it is taken away, so that it can tell.
func TestEscapeControls(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	other := testutil.Child(t, "wait")
	in, err := other.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	require.NoError(t, other.Start())
	outside := strconv.Itoa(other.Process.Pid)
	ours := func(s *isolation.Spec) {
		weak(s)
		s.Namespaces.PID = isolation.NamespaceHost
	}
	for what, change := range map[string]func(*isolation.Spec){
		"processes":         ours,
		"signal=" + outside: ours,
		"ptrace=" + outside: ours,
		"io_uring":          func(s *isolation.Spec) { s.Security.Seccomp = isolation.Off },
		"unmask":            func(s *isolation.Spec) { weak(s); s.Root.Masked = nil },
		"cgroupfs": func(s *isolation.Spec) {
			s.Root.Volumes = append(s.Root.Volumes, isolation.Volume{Target: "/cg", Source: "/sys/fs/cgroup"})
		},
		"device=" + t.TempDir(): func(s *isolation.Spec) {
			args := s.Process.Args
			*s = isolation.Spec{ID: s.ID, Process: isolation.Process{Args: append(testutil.ChildArgs(t, "escape"), args[3:]...)}}
		},
	} {
		name, _, _ := strings.Cut(what, "=")
		result := attempt(t, h, "control-"+strings.ReplaceAll(name, " ", "-"), change, what)[what]
		if name == "io_uring" && strings.Contains(result, "not implemented") || name == "io_uring" && strings.Contains(result, "not permitted") {
			continue // an option of the kernel, and a sysctl
		}
		assert.Equal(t, succeeded, result, what)
	}
	// A descriptor that is given is found.
	dir, err := os.Open("/")
	require.NoError(t, err)
	defer dir.Close()
	s := inRoot(t, spec(t, "given", "escape", "descriptors"), isolation.Root{Layers: []string{image(t)}})
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, errors.Join(create(t, h, s).Start(deadline(t), nil, w, os.Stderr, dir), w.Close()))
	var results map[string]string
	require.NoError(t, json.NewDecoder(r).Decode(&results))
	assert.Equal(t, succeeded, results["descriptors"])
}
