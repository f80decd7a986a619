// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{
		// hold waits for the end of its input.
		"hold": func([]string) int {
			fmt.Println("ready")
			_, _ = io.Copy(io.Discard, os.Stdin)
			return 0
		},
	})
}

// holder starts a process in new namespaces, which it holds until the test ends
// or stop is called.
func holder(t *testing.T, kinds Kinds) (cmd *exec.Cmd, stop func()) {
	cmd = testutil.Child(t, "hold")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(kinds.Flags())}
	if kinds.Has(User) {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	stop = func() { _ = in.Close(); _ = cmd.Wait() }
	t.Cleanup(stop)
	return cmd, stop
}

// open returns a handle that the test closes.
func open(t *testing.T, cmd *exec.Cmd, kind Kind) *Handle {
	h, err := OpenPID(cmd.Process.Pid, kind)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	return h
}

func current(t *testing.T, kind Kind) ID {
	h, err := Current(kind)
	require.NoError(t, err)
	defer h.Close()
	return h.ID()
}

const enterable = 1<<Mount | 1<<Network | 1<<IPC | 1<<UTS | 1<<Cgroup

func TestDo(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	var all []*Handle
	for kind := range Kinds(enterable).All() {
		h := open(t, cmd, kind)
		all = append(all, h)
		own := current(t, kind)
		require.NotEqual(t, own, h.ID())
		calls := 0
		err := Do(func() error {
			calls++
			assert.Equal(t, h.ID(), current(t, kind))
			assert.False(t, linux.OnMainThread())
			return io.EOF
		}, h)
		assert.Equal(t, io.EOF, err, "as it is")
		assert.Equal(t, 1, calls)
		assert.Equal(t, own, current(t, kind))
	}
	err := Do(func() error {
		for _, h := range all {
			assert.Equal(t, h.ID(), current(t, h.Kind()))
		}
		return nil
	}, all...)
	require.NoError(t, err)
	assert.ErrorIs(t, Do(func() error { return io.EOF }), io.EOF)
}

func TestDoUTS(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, KindsOf(UTS))
	h := open(t, cmd, UTS)
	before, err := os.Hostname()
	require.NoError(t, err)
	require.NoError(t, Do(func() error { return unix.Sethostname([]byte("caisson-test")) }, h))
	after, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, before, after)
	var inside string
	require.NoError(t, Do(func() (err error) { inside, err = os.Hostname(); return err }, h))
	assert.Equal(t, "caisson-test", inside)
}

func TestDoPIDIsForChildren(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, KindsOf(PID))
	h := open(t, cmd, PID)
	var child *exec.Cmd
	require.NoError(t, Do(func() error {
		assert.NotEqual(t, h.ID(), current(t, PID))
		child, _ = holder(t, 0)
		return nil
	}, h))
	id, err := IDOf(child.Process.Pid, PID)
	require.NoError(t, err)
	assert.Equal(t, h.ID(), id)
	outside, _ := holder(t, 0)
	id, err = IDOf(outside.Process.Pid, PID)
	require.NoError(t, err)
	assert.Equal(t, current(t, PID), id)
}

func TestDoMount(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	dir := t.TempDir()
	cmd, _ := holder(t, KindsOf(Mount))
	h := open(t, cmd, Mount)
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, Do(func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("caisson-test", dir, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		if err := unix.Chdir(dir); err != nil {
			return err
		}
		return os.WriteFile("inside", nil, 0o600)
	}, h))
	assert.NoFileExists(t, filepath.Join(dir, "inside"))
	require.NoError(t, Do(func() error {
		_, err := os.Stat(filepath.Join(dir, "inside"))
		return err
	}, h))
	after, err := unix.Getwd()
	require.NoError(t, err)
	assert.Equal(t, wd, after)
}

func TestDoRefuses(t *testing.T) {
	testutil.CheckLeaks(t)
	never := func() error { t.Error("called"); return nil }
	self := func(kind Kind) *Handle {
		h, err := Current(kind)
		require.NoError(t, err)
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	net := self(Network)
	closed, err := Current(UTS)
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	assert.ErrorIs(t, Do(never, nil), ErrInvalid)
	assert.ErrorIs(t, Do(never, net, self(Network)), ErrInvalid)
	err = Do(never, net, closed)
	assert.ErrorIs(t, err, os.ErrClosed)
	assert.ErrorAs(t, err, new(*EnterError))

	err = Do(never, net, self(User))
	assert.ErrorIs(t, err, ErrNotSupported)
	assert.ErrorAs(t, err, new(*UnsupportedError))
	h, err := Current(Time)
	if errors.Is(err, ErrNotSupported) {
		return
	}
	require.NoError(t, err)
	defer h.Close()
	assert.ErrorIs(t, Do(never, h), ErrNotSupported)
}

// The kernel's own answers, on which [check] relies.
func TestKernelRefusesUserAndTime(t *testing.T) {
	for kind, want := range map[Kind]error{User: syscall.EINVAL, Time: syscall.EUSERS} {
		h, err := Current(kind)
		if errors.Is(err, ErrNotSupported) {
			continue
		}
		require.NoError(t, err)
		err = Do(func() error { return linux.Setns(h.FD(), int(kind.Flag())) })
		assert.ErrorIs(t, err, want)
		require.NoError(t, h.Close())
	}
}

func TestDoUnprivileged(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Unprivileged)
	for kind := range Kinds(enterable | 1<<PID).All() {
		h, err := Current(kind)
		require.NoError(t, err)
		err = Do(func() error { t.Error("called"); return nil }, h)
		assert.ErrorIs(t, err, os.ErrPermission)
		var enter *EnterError
		require.ErrorAs(t, err, &enter)
		assert.Equal(t, h.ID(), enter.ID)
		assert.EqualError(t, err, "enter "+h.String()+": setns: operation not permitted")
		require.NoError(t, h.Close())
	}
}

func TestDoPanic(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	for kind := range Kinds(enterable).All() {
		func() {
			defer func() {
				p, ok := recover().(*Panic)
				require.True(t, ok)
				assert.Equal(t, io.EOF, p.Value)
				assert.ErrorIs(t, p, io.EOF)
				assert.Contains(t, p.Error(), "EOF\n\ngoroutine ")
				assert.Contains(t, string(p.Stack), "boom")
			}()
			_ = Do(func() error { boom(); return nil }, open(t, cmd, kind))
			t.Error("went on")
		}()
	}
	assert.PanicsWithError(t, "boom\n\n", func() {
		defer func() {
			p := recover().(*Panic)
			assert.NoError(t, p.Unwrap())
			p.Stack = nil
			panic(p)
		}()
		_ = Do(func() error { panic("boom") })
	})
}

func boom() { panic(io.EOF) }

func TestDoGoexit(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	for kind := range Kinds(enterable).All() {
		h := open(t, cmd, kind)
		ended, returned := make(chan struct{}), false
		go func() {
			defer close(ended)
			_ = Do(func() error { runtime.Goexit(); return nil }, h)
			returned = true
		}()
		<-ended
		assert.False(t, returned)
	}
}

func TestDoNested(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	net, uts := open(t, cmd, Network), open(t, cmd, UTS)
	ownNet, ownUTS := current(t, Network), current(t, UTS)
	require.NoError(t, Do(func() error {
		if err := Do(func() error {
			assert.Equal(t, uts.ID(), current(t, UTS))
			assert.Equal(t, ownNet, current(t, Network), "begins again")
			return nil
		}, uts); err != nil {
			return err
		}
		assert.Equal(t, net.ID(), current(t, Network))
		assert.Equal(t, ownUTS, current(t, UTS))
		return nil
	}, net))
}

// gone fails if the thread still exists after a while.
func gone(t *testing.T, tid int) {
	task := fmt.Sprintf("/proc/self/task/%d", tid)
	require.Eventually(t, func() bool { return missing(task) }, testutil.Patience(10e9), 1e6, "thread %d", tid)
}

func TestDoCannotEnter(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	net, uts, ipc := open(t, cmd, Network), open(t, cmd, UTS), open(t, cmd, IPC)
	var trail []string
	failing := func(fd, flag int) error {
		kind := kindOfFlag(uint32(flag))
		if fd == ipc.FD() {
			return os.NewSyscallError("setns", syscall.EPERM)
		}
		err := linux.Setns(fd, flag)
		trail = append(trail, current(t, kind).String())
		return err
	}
	err := do(func() error { t.Error("called"); return nil }, []*Handle{net, uts, ipc}, failing)
	var enter *EnterError
	require.ErrorAs(t, err, &enter)
	assert.Equal(t, ipc.ID(), enter.ID)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.Equal(t, []string{net.String(), uts.String(), current(t, Network).String(), current(t, UTS).String()}, trail)

	// A thread on the way into a mount namespace is lost in any case.
	mnt, tid := open(t, cmd, Mount), 0
	err = do(nil, []*Handle{mnt}, func(int, int) error { tid = unix.Gettid(); return syscall.EPERM })
	assert.ErrorIs(t, err, os.ErrPermission)
	gone(t, tid)
}

func TestDoCannotLeave(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	net, uts := open(t, cmd, Network), open(t, cmd, UTS)
	tid := 0
	err := Do(func() error {
		tid = unix.Gettid()
		// capset(2) concerns the calling thread.
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		return io.EOF
	}, net, uts)
	var leave *LeaveError
	require.ErrorAs(t, err, &leave)
	assert.Equal(t, current(t, Network), leave.ID)
	assert.Equal(t, io.EOF, leave.Result)
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.EqualError(t, err, "return to "+leave.ID.String()+": setns: operation not permitted; the function returned: EOF")
	gone(t, tid)

	own := current(t, Network)
	err = do(func() error { tid = unix.Gettid(); return nil }, []*Handle{net}, func(fd, flag int) error {
		if fd != net.FD() {
			return syscall.EINVAL
		}
		return linux.Setns(fd, flag)
	})
	assert.EqualError(t, err, "return to "+own.String()+": invalid argument")
	assert.NotErrorIs(t, err, io.EOF)
	gone(t, tid)
}

// After many calls, whatever the scheduler did meanwhile, all threads are in
// the same namespaces and there are not many of them.
func TestDoManyTimes(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	cmd, _ := holder(t, enterable)
	net, uts, mnt := open(t, cmd, Network), open(t, cmd, UTS), open(t, cmd, Mount)
	want := map[*Handle]ID{}
	for _, h := range []*Handle{net, uts, mnt} {
		want[h] = current(t, h.Kind())
	}
	rounds := 1000
	if testutil.Emulated() {
		rounds = 200
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	const routines = 8
	var wg sync.WaitGroup
	for i := range routines {
		wg.Go(func() {
			for n := range rounds / routines {
				runtime.GOMAXPROCS(1 + (i+n)%4)
				in := []*Handle{net, uts}
				if n%10 == 0 {
					in = append(in, mnt)
				}
				err := Do(func() error {
					runtime.Gosched()
					for _, h := range in {
						if id := current(t, h.Kind()); id != h.ID() {
							return fmt.Errorf("inside in %s", id)
						}
					}
					if linux.OnMainThread() {
						return errors.New("on the main thread")
					}
					return nil
				}, in...)
				assert.NoError(t, err)
				for h, own := range want {
					assert.Equal(t, own, current(t, h.Kind()))
				}
			}
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	assert.Less(t, len(tasks), 60, "CheckLeaks looks where they are")
}

func BenchmarkDo(b *testing.B) {
	testutil.Require(b, testutil.Root)
	h, err := Current(Network)
	require.NoError(b, err)
	defer h.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := Do(func() error { return nil }, h); err != nil {
			b.Fatal(err)
		}
	}
}
