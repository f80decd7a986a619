// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestStepFails(t *testing.T) {
	testutil.CheckLeaks(t)
	const closed = 1 << 20 // no process has that many descriptors
	const exe = "/proc/self/exe"
	user := func(s Spec) Spec {
		s.Namespaces |= NewUser
		s.UIDMaps, s.GIDMaps = ownIDs, []IDMap{{0, uint32(os.Getegid()), 1}}
		return s
	}
	for _, tt := range []struct {
		name string
		spec Spec
		step string
		want error
	}{
		{"cgroup", Spec{Cgroup: &File{closed, "/gone"}}, "clone3(", unix.EBADF},
		{"tasks", Spec{Tasks: []File{{closed, "/gone/tasks"}}}, fmt.Sprintf(`write(%d</gone/tasks>, "0")`, closed), unix.EBADF},
		{"join", Spec{Join: []Join{{File{closed, "/proc/1/ns/net"}, NewNet}}}, "setns(", unix.EBADF},
		{"mount", user(Spec{Namespaces: NewMount, Mounts: []Mount{{Source: "x", Target: "/", Type: "no-such-fs"}}}),
			`mount("x", "/", "no-such-fs", 0x0, NULL)`, unix.ENODEV},
		{"mount target", user(Spec{Namespaces: NewMount, Mounts: []Mount{{Source: "x", Target: "/no/such", Type: "tmpfs"}}}),
			`mount("x", "/no/such", "tmpfs", 0x0, NULL)`, unix.ENOENT},
		{"write", Spec{Writes: []Write{{Path: "/no/such", Data: "x"}}}, `open("/no/such", `, unix.ENOENT},
		{"write refused", Spec{Writes: []Write{{Path: "/proc/self/oom_score_adj", Data: "x"}}}, `write(result of 2</proc/self/oom_score_adj>, "x")`, unix.EINVAL},
		{"call", Spec{Calls: []Call{{Name: "frobnicate()", Nr: 1 << 30}}}, "frobnicate()", unix.ENOSYS},
		{"terminal", Spec{Setsid: true, Terminal: true, Files: []int{devNull(t)}}, "ioctl(0, 0x540e)", unix.ENOTTY},
		{"file", Spec{Files: []int{0, 1, 2, closed}}, "dup3(", unix.EBADF},
		{"file in place", Spec{Files: []int{0, 1, 2, -1, closed}}, "dup3(", unix.EBADF},
		{"rlimit", Spec{Rlimits: []Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 1 << 40, Hard: unix.RLIM_INFINITY}}}, "prlimit(RLIMIT_NOFILE, 1099511627776, unlimited)", unix.EPERM},
		{"CPUs", Spec{Scheduling: &Scheduling{CPUs: []int{4095}}}, "sched_setaffinity(", unix.EINVAL},
		{"dir", Spec{Dir: "/no/such"}, `chdir("/no/such")`, unix.ENOENT},
		{"dir is a file", Spec{Dir: exe}, `chdir("/proc/self/exe")`, unix.ENOTDIR},
		{"exec", Spec{Path: "/no/such", Calls: []Call{{Name: "getpid()", Nr: unix.SYS_GETPID}}}, `execve("/no/such")`, unix.ENOENT},
		{"exec a directory", Spec{Path: "/", Calls: []Call{{Name: "getpid()", Nr: unix.SYS_GETPID}}}, `execve("/")`, unix.EACCES},
		{"too much", Spec{Env: slicesOf(strings.Repeat("x", 1<<16), 90)}, `execve("/proc/self/exe")`, unix.E2BIG},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spec.Namespaces&NewUser != 0 {
				testutil.Require(t, testutil.UserNamespaces)
			}
			if tt.spec.Path == "" {
				tt.spec.Path = exe
			}
			p, err := Compile(tt.spec)
			require.NoError(t, err)
			c, err := p.Start(context.Background())
			assert.Nil(t, c)
			var step *StepError
			require.ErrorAs(t, err, &step)
			assert.Contains(t, step.Step, tt.step)
			assert.ErrorIs(t, err, tt.want)
			assert.Equal(t, p.Steps()[step.Index].Text, step.Step)
			assert.False(t, step.Stuck)
			if reason := because[tt.name]; reason != "" {
				assert.ErrorContains(t, err, reason)
			}
			if step.Index > 0 {
				assert.ErrorIs(t, unix.Kill(step.PID, 0), unix.ESRCH, "it is reaped")
			}
		})
	}
}

// because are the rules that the kernel's errors do not name.
var because = map[string]string{
	"terminal": "descriptor 0 is no terminal", "rlimit": "CAP_SYS_RESOURCE", "CPUs": "none of these CPUs",
}

func slicesOf(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func devNull(t *testing.T) int {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return int(f.Fd())
}

// flightOf prepares a start whose step k, counted from 1, waits for the word
// header.mapped instead of doing what it should.
func flightOf(p *Program, k int) *flight {
	f := newFlight(p)
	st := &f.arena.steps()[k-1]
	begin := uint64(uintptr(unsafe.Pointer(st)))
	for i := range f.arena.steps() { // no earlier step may write into this one
		outs := f.arena.steps()[i].outs
		for outs != 0 {
			to := &f.arena.words[(outs-uint64(uintptr(unsafe.Pointer(&f.arena.words[0]))))/8]
			if *to == 0 {
				break
			}
			if *to >= begin && *to < begin+uint64(stepSize) {
				*to = uint64(uintptr(unsafe.Pointer(&f.arena.header().stack)))
			}
			outs += 8
		}
	}
	*st = step{nr: unix.SYS_FUTEX, flags: flagWait}
	st.args[0], st.args[1] = uint64(uintptr(unsafe.Pointer(&f.arena.header().mapped))), futexWait
	return f
}

// reach waits until the child is in step k, or has ended.
func (f *flight) reach(k int) {
	for atomic.LoadUint32(&f.arena.header().index) != uint32(k) {
		select {
		case <-f.done:
			return
		default:
			runtime.Gosched()
		}
	}
}

func manySteps(t *testing.T) *Program {
	s := Spec{Namespaces: NewMount | NewUTS | NewIPC | NewPID | NewNet | NewUser | NewCgroup, Hostname: "box", Loopback: true,
		UIDMaps: ownIDs, GIDMaps: []IDMap{{0, uint32(os.Getegid()), 1}}, NoNewPrivs: true, Setsid: true, Dir: "/",
		Files: []int{2, 1, 0}, Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}},
		Capabilities: &Capabilities{Bounding: 1<<lastCapability() - 1}}
	return program(t, s, "exit", "0")
}

func TestKilledInEachStep(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	p := manySteps(t)
	for k := 1; k < len(p.steps); k++ {
		if p.steps[k-1].flags&flagWait != 0 {
			continue // the wait for the maps, see TestMapsRefused
		}
		f := flightOf(p, k)
		// Not mapped: that is set once the maps are written.
		f.arena.steps()[k-1].args[0] = uint64(uintptr(unsafe.Pointer(&f.arena.header().abort)))
		go f.run()
		f.reach(k)
		f.kill()
		<-f.done
		c, err := f.land()
		if k == len(p.steps)-1 { // in execve: it counts as started
			require.NoError(t, err)
			s, err := c.Wait()
			require.NoError(t, err)
			assert.Equal(t, unix.SIGKILL, s.Signal)
			require.NoError(t, c.PIDFD.Close())
			break
		}
		var step *StepError
		require.ErrorAs(t, err, &step)
		assert.Equal(t, k, step.Index, "%v", err)
		var killed *Killed
		require.ErrorAs(t, err, &killed)
		assert.Equal(t, unix.SIGKILL, killed.Signal)
		assert.ErrorIs(t, unix.Kill(step.PID, 0), unix.ESRCH)
	}
}

// A signal that arrives before exec is kept until the end, and ends the launch
// there: those that dump core while they are still blocked, lest the dump takes
// us along, the others when they no longer are.
func TestSignalBeforeExec(t *testing.T) {
	testutil.CheckLeaks(t)
	p := program(t, Spec{Dir: "/"}, "exit", "0")
	for sig, at := range map[unix.Signal]string{
		unix.SIGQUIT: "sigtimedwait", unix.SIGABRT: "sigtimedwait", unix.SIGSEGV: "sigtimedwait", unix.SIGSYS: "sigtimedwait",
		unix.SIGTERM: "sigprocmask", unix.SIGINT: "sigprocmask", unix.Signal(40): "sigprocmask",
	} {
		f := flightOf(p, 2) // the first gives the child descriptors of its own
		go f.run()
		f.reach(2)
		h := f.arena.header()
		require.NoError(t, unix.Kill(int(h.pid), sig))
		atomic.StoreUint32(&h.mapped, 1)
		futex(&h.mapped, futexWake, 1)
		<-f.done
		_, err := f.land()
		var step *StepError
		require.ErrorAs(t, err, &step, "%v", sig)
		assert.Contains(t, step.Step, at, "%v", sig)
		var killed *Killed
		require.ErrorAs(t, err, &killed, "%v", sig)
		assert.Equal(t, sig, killed.Signal)
	}
}

func TestCancel(t *testing.T) {
	testutil.CheckLeaks(t)
	p := program(t, Spec{Calls: []Call{{Name: "pause", Nr: unix.SYS_PPOLL, Args: []Arg{{}, {}, {}, {}}}}}, "exit", "0")
	var step *StepError
	var ctx context.Context
	for d := 20 * time.Millisecond; d < testutil.Patience(10*time.Second); d *= 2 { // until the child comes that far in time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), d)
		_, err := p.Start(ctx)
		cancel()
		require.ErrorAs(t, err, &step)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if step.Step == "pause" {
			break
		}
	}
	assert.Equal(t, "pause", step.Step)
	assert.False(t, step.Stuck)
	assert.ErrorIs(t, unix.Kill(step.PID, 0), unix.ESRCH)

	_, err := p.Start(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded, "and nothing is started")
}

// Cancelled at any moment, a start leaves nothing.
func TestCancelAnytime(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	p := manySteps(t)
	for i := range rounds(60) {
		ctx, cancel := context.WithCancel(context.Background())
		timer := time.AfterFunc(time.Duration(i)*30*time.Microsecond, cancel)
		c, err := p.Start(ctx)
		if err == nil {
			_, err = c.Wait()
			require.NoError(t, err)
			require.NoError(t, c.PIDFD.Close())
		} else {
			require.ErrorIs(t, err, context.Canceled)
		}
		timer.Stop()
		cancel()
	}
}

// A v1 freezer lets nobody die. Start must come back all the same, and whoever
// is left must be reaped once it can die.
func TestStuckInFreezer(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup1("freezer"))
	testutil.CheckLeaks(t)
	dir := filepath.Join(hierarchy(t, false, "freezer"), testutil.CgroupName(t))
	require.NoError(t, os.Mkdir(dir, 0o755))
	defer func() { assert.NoError(t, unix.Rmdir(dir)) }()
	if err := startCpuset(dir); err != nil { // where both are mounted together
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("FROZEN"), 0))
	tasks, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer tasks.Close()
	p := program(t, Spec{Tasks: []File{{int(tasks.Fd()), tasks.Name()}}}, "exit", "0")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = p.Start(ctx)
	var step *StepError
	require.ErrorAs(t, err, &step)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.True(t, step.Stuck, "%v", err)
	fd, err := unix.PidfdOpen(step.PID, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0))
	require.Eventually(t, func() bool { return unix.Kill(step.PID, 0) == unix.ESRCH },
		testutil.Patience(10*time.Second), time.Millisecond, "it is reaped without anybody asking")
}

// frozenGroup makes a frozen cgroup2 group for the length of a test.
func frozenGroup(t *testing.T) *os.File {
	t.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	var dir string
	for _, m := range mounts {
		if m.V2 {
			dir = filepath.Join(m.Path, testutil.CgroupName(t))
		}
	}
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { assert.NoError(t, unix.Rmdir(dir)) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0))
	group, err := os.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Close()) })
	return group
}

func TestFrozenV2IsNotStuck(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	group := frozenGroup(t)
	p := program(t, Spec{Cgroup: &File{int(group.Fd()), group.Name()}}, "exit", "0")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := p.Start(ctx)
	var step *StepError
	require.ErrorAs(t, err, &step)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, step.Stuck, "%v", err)
}

// A child may be made only after its start was cancelled, and then be born
// frozen, so that it does not see that by itself.
func TestCancelledBeforeBirth(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	testutil.CheckLeaks(t)
	group := frozenGroup(t)
	p := program(t, Spec{Cgroup: &File{int(group.Fd()), group.Name()}}, "exit", "0")
	f := newFlight(p)
	ended := make(chan error)
	go func() { ended <- f.cancel(context.Canceled) }()
	for atomic.LoadUint32(&f.arena.header().abort) == 0 {
		runtime.Gosched()
	}
	go f.run()
	err := <-ended
	var step *StepError
	require.ErrorAs(t, err, &step)
	require.False(t, step.Stuck, "%v", err)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestDumpable(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	require.Equal(t, 1, dumpable())
	p := program(t, Spec{Credential: &Credential{UID: 4242, GID: 4242}, Dir: "/"}, "exit", "0")
	chdir := 0
	for i, s := range p.Steps() {
		if strings.HasPrefix(s.Text, "chdir") {
			chdir = i
		}
	}
	f := flightOf(p, chdir)
	g := flightOf(p, chdir)
	for _, fl := range []*flight{f, g} {
		go fl.run()
		fl.reach(chdir)
	}
	assert.NotEqual(t, 1, dumpable(), "two children of another uid share our memory")
	f.kill()
	<-f.done
	assert.NotEqual(t, 1, dumpable(), "one still does")
	g.kill()
	<-g.done
	assert.Equal(t, 1, dumpable())
	for _, fl := range []*flight{f, g} {
		_, err := fl.land()
		require.Error(t, err)
	}

	require.NoError(t, unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	defer func() { require.NoError(t, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)) }()
	v, _ := see(t, Spec{Path: "/proc/self/exe", Credential: &Credential{UID: 4242, GID: 4242}})
	assert.Equal(t, 1, v.Dumpable, "the child's new memory is its own")
	assert.Equal(t, 0, dumpable(), "what was not dumpable stays so")
}

func TestManyAtOnce(t *testing.T) {
	testutil.CheckLeaks(t)
	starts := rounds(1000)
	p := program(t, Spec{Dir: "/", Path: "/proc/self/exe", Calls: []Call{{Name: "exit_group(7)", At: Last,
		Nr: unix.SYS_EXIT_GROUP, Args: []Arg{{Value: 7}}}}}, "exit", "0")
	if _, err := os.Stat("/bin/true"); err == nil {
		if q, err := Compile(Spec{Path: "/bin/true"}); err == nil {
			p = q
		}
	}
	stop := make(chan struct{})
	var gc, work sync.WaitGroup
	gc.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	var left atomic.Int64
	left.Store(int64(starts))
	for range 8 {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				c, err := p.Start(context.Background())
				var step *StepError
				if errors.As(err, &step) && len(p.labels) > 0 {
					continue // the exit_group above
				}
				if !assert.NoError(t, err) {
					return
				}
				s, err := c.Wait()
				assert.NoError(t, err)
				assert.Zero(t, s.Code)
				assert.NoError(t, c.PIDFD.Close())
			}
		})
	}
	work.Wait()
	close(stop)
	gc.Wait()
}

func TestOneProcessor(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := manySteps(t)
	for range rounds(20) {
		c, err := p.Start(context.Background())
		require.NoError(t, err)
		_, err = c.Wait()
		require.NoError(t, err)
		require.NoError(t, c.PIDFD.Close())
	}
}

// rounds is a tenth where everything is ten times slower.
func rounds(n int) int {
	if testutil.Emulated() {
		return n / 10
	}
	return n
}

func TestMissingProgram(t *testing.T) {
	for path, want := range map[string]error{
		"/no/such/program": os.ErrNotExist,
		"/proc/self/maps":  os.ErrPermission, // a file, but not executable
		"/":                os.ErrPermission,
	} {
		_, err := Compile(Spec{Path: path})
		var pe *fs.PathError
		require.ErrorAs(t, err, &pe, path)
		assert.Equal(t, path, pe.Path)
		assert.ErrorIs(t, err, want)
	}
}

// A child that has no thread to be born from is an error, and one whose thread
// could not be brought back has been born.
func TestStartOn(t *testing.T) {
	testutil.CheckLeaks(t)
	p := program(t, Spec{Files: []int{-1, -1, -1}}, "exit", "0")
	refused := errors.New("refused")
	_, err := p.StartOn(t.Context(), func(func()) error { return refused })
	assert.ErrorIs(t, err, refused)
	_, err = p.StartOn(t.Context(), func(func()) error { return nil })
	assert.Error(t, err)
	c, err := p.StartOn(t.Context(), func(birth func()) error { birth(); return refused })
	require.NoError(t, err)
	_, err = c.Wait()
	require.NoError(t, err)
	require.NoError(t, c.PIDFD.Close())
}
