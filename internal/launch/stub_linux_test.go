// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

func newStub(t *testing.T) *Stub {
	stub, err := NewStub()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stub.Close()) })
	return stub
}

func TestStub(t *testing.T) {
	testutil.CheckLeaks(t)
	stub := newStub(t)
	v, c := see(t, Spec{Stub: stub, Env: []string{"A=1"}, Dir: "/proc"})
	assert.Equal(t, c.PID, v.PID)
	assert.Equal(t, testutil.ChildArgs(t, "report"), v.Args)
	assert.Equal(t, []string{"A=1"}, v.Env)
	for fd, file := range v.Files {
		assert.NotContains(t, file, "memfd:init", fd)
	}
	for fd, file := range v.Files {
		assert.False(t, len(fd) > 1 || fd > "2" && strings.HasPrefix(file, "pipe:"), "the second exec closes the report: %s %s", fd, file)
	}

	_, err := unix.Pwrite(stub.fd.Int(), []byte{0}, 0)
	assert.Error(t, err, "sealed")
	if f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", stub.fd.Int()), os.O_RDWR, 0); err == nil {
		_, err = f.WriteAt([]byte{0}, 0)
		assert.ErrorIs(t, err, unix.EPERM)
		require.NoError(t, f.Close())
	}
}

func TestStubFails(t *testing.T) {
	testutil.CheckLeaks(t)
	stub := newStub(t)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\x7fELF, not really"), 0o755))
	for path, want := range map[string]error{empty: unix.ENOEXEC, "/proc/self/nothing": os.ErrNotExist} {
		s := Spec{Stub: stub, Path: path, Dir: "/", Confined: true}
		p, err := Compile(s)
		if err != nil {
			require.ErrorIs(t, err, want)
			continue
		}
		_, err = p.Start(context.Background())
		require.ErrorIs(t, err, want)
		var step *StepError
		require.ErrorAs(t, err, &step)
		assert.Contains(t, step.Step, "execve("+strconv.Quote(path))
	}
	p, err := Compile(Spec{Stub: stub, Path: "/proc/self/exe"})
	require.NoError(t, err)
	require.NoError(t, p.Close(), "never started")
}

// A program that the kernel looks up by way of /proc/self/exe finds the stub and
// not this binary (CVE-2019-5736).
func TestStubIsTheExecutable(t *testing.T) {
	testutil.CheckLeaks(t)
	stub := newStub(t)
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/proc/self/exe\n"), 0o755))
	for _, path := range []string{script, "/proc/self/exe"} {
		for _, s := range []*Stub{nil, stub} {
			if s == nil && path == script {
				continue // this binary would run all its tests
			}
			r, w, err := os.Pipe()
			require.NoError(t, err)
			p, err := Compile(Spec{Stub: s, Path: path, Args: testutil.ChildArgs(t, "exit", "0"), Files: []int{0, int(w.Fd()), int(w.Fd())}})
			require.NoError(t, err)
			c, err := p.Start(context.Background())
			require.NoError(t, w.Close())
			if err == nil {
				exe, lerr := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.PID))
				status, werr := c.Wait()
				require.NoError(t, werr)
				require.NoError(t, c.PIDFD.Close())
				if s != nil {
					assert.False(t, lerr == nil && strings.Contains(exe, "launch.test"), "%s ran %s", path, exe)
					assert.NotZero(t, status.Code, "the stub has nothing to execute")
				} else {
					assert.Zero(t, status.Code, "without it this binary runs")
				}
			}
			_, _ = io.Copy(io.Discard, r)
			require.NoError(t, r.Close())
		}
	}
}

// orphans leaves args[0] children behind that end, tells its own pid, waits for
// SIGUSR1 and exits with 3, or is killed by args[1].
func orphans(args []string) int {
	exe, _ := os.Executable()
	n, _ := strconv.Atoi(args[0])
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGUSR1)
	for range n {
		// The child's own child is left to the first process of the namespace.
		cmd := exec.Command(exe, os.Args[1], "orphan")
		if err := cmd.Run(); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(os.Getpid(), os.Getppid())
	<-got
	var left []string
	for range 10000 { // the last may not have ended yet
		if left, _ = filepath.Glob("/proc/[0-9]*"); len(left) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println(len(left))
	if len(args) > 1 {
		sig, _ := strconv.Atoi(args[1])
		_ = unix.Kill(os.Getpid(), syscall.Signal(sig))
		<-got
	}
	return 3
}

func orphan(args []string) int {
	exe, _ := os.Executable()
	if len(args) == 0 {
		_, _ = os.StartProcess(exe, append([]string{exe, os.Args[1]}, "orphan", "end"), &os.ProcAttr{})
	}
	return 0
}

func TestReaper(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	stub := newStub(t)
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"3"}, 3}, {[]string{"0", "15"}, 128 + 15}, {[]string{"0", "9"}, 128 + 9}} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		args := testutil.ChildArgs(t, "orphans", c.args...)
		p, err := Compile(Spec{
			Stub: stub, Reaper: true, Namespaces: NewPID | NewMount, Path: args[0], Args: args, Files: []int{0, int(w.Fd()), 2},
			Mounts: []Mount{{Source: "proc", Target: "/proc", Type: "proc"}},
		})
		require.NoError(t, err)
		child, err := p.Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, w.Close())
		var pid, parent, left int
		_, err = fmt.Fscan(r, &pid, &parent)
		require.NoError(t, err)
		assert.Equal(t, 1, parent)
		require.NoError(t, unix.PidfdSendSignal(child.PIDFD.Int(), unix.SIGUSR1, nil, 0))
		_, err = fmt.Fscan(r, &left)
		require.NoError(t, err, "the signal came through")
		assert.Equal(t, 2, left, "the reaper and its child: whoever was left to it is gone")
		status, err := child.Wait()
		require.NoError(t, err)
		assert.Equal(t, c.code, status.Code)
		require.NoError(t, r.Close())
		require.NoError(t, child.PIDFD.Close())
	}
}

func TestReaperRefused(t *testing.T) {
	var bad *SpecError
	s := Spec{Path: "/x", Reaper: true}
	assert.ErrorAs(t, s.Validate(), &bad)
}

// TestJoinPID: a child that is born in another process's namespaces.
func TestJoinPID(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	first, err := program(t, Spec{
		Namespaces: NewPID | NewMount | NewUTS, Hostname: "inside",
		Mounts: []Mount{{Source: "proc", Target: "/proc", Type: "proc"}},
	}, "agent", "hang").Start(context.Background())
	require.NoError(t, err)
	defer first.PIDFD.Close()
	defer first.Wait()
	defer func() { _ = unix.PidfdSendSignal(first.PIDFD.Int(), unix.SIGKILL, nil, 0) }()
	s := Spec{Stub: newStub(t), Confined: true, Dir: "/"}
	for kind, ns := range map[string]Namespaces{"pid": NewPID, "mnt": NewMount, "uts": NewUTS} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", first.PID, kind))
		require.NoError(t, err)
		defer f.Close()
		s.Join = append(s.Join, Join{File{int(f.Fd()), kind}, ns})
	}
	before := dumpable()
	v, c := see(t, s)
	assert.Greater(t, v.PID, 1)
	assert.Less(t, v.PID, 20)
	assert.NotEqual(t, c.PID, v.PID)
	assert.Equal(t, "inside", v.Hostname)
	assert.Equal(t, before, dumpable())
	own := ownNamespaces(t)
	assert.NotEqual(t, own["pid"], v.Namespaces["pid"])
	assert.Equal(t, own["net"], v.Namespaces["net"])
	assert.Equal(t, own["pid"], ownNamespaces(t)["pid"])
	children, err := filepath.Glob("/proc/self/task/*/ns/pid_for_children")
	require.NoError(t, err)
	for _, link := range children {
		if to, err := os.Readlink(link); err == nil {
			assert.Equal(t, own["pid"], to, "no thread is left with children elsewhere")
		}
	}
}
