// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

var ownIDs = []IDMap{{0, uint32(os.Geteuid()), 1}}

func TestEachNamespace(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	for name, ns := range map[string]Namespaces{
		"mnt": NewMount, "cgroup": NewCgroup, "uts": NewUTS, "ipc": NewIPC, "pid": NewPID, "net": NewNet,
		"time": NewTime, "user": NewUser,
	} {
		t.Run(name, func(t *testing.T) {
			s := Spec{Namespaces: ns}
			if ns == NewTime && !timeSupported(t) {
				return
			}
			if ns == NewUser {
				testutil.Require(t, testutil.UserNamespaces)
				s.UIDMaps, s.GIDMaps = []IDMap{{0, 0, 10}, {10, 100000, 5}}, []IDMap{{0, 7, 3}}
				s.Setgroups = true
			}
			v, _ := see(t, s)
			for kind, id := range ownNamespaces(t) {
				if kind == name {
					assert.NotEqual(t, id, v.Namespaces[kind], kind)
				} else {
					assert.Equal(t, id, v.Namespaces[kind], kind)
				}
			}
		})
	}
}

// timeSupported reports whether a time namespace can be had, and holds that a
// kernel that cannot is told from one that can.
func timeSupported(t *testing.T) bool {
	t.Helper()
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		testutil.Skip(t, "timens", "%v", err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	_, err = Compile(Spec{Path: "/proc/self/exe", Namespaces: NewTime})
	for _, old := range []string{"5.", "6.0", "6.1."} {
		if strings.HasPrefix(string(release), old) {
			require.ErrorIs(t, err, ErrNotSupported)
			return false
		}
	}
	require.NoError(t, err)
	return true
}

func TestSandbox(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	s := Spec{
		Namespaces: allNamespaces &^ NewTime, Hostname: "box", Domainname: "dom", Loopback: true,
		UIDMaps: []IDMap{{0, 100000, 1000}}, GIDMaps: []IDMap{{0, 200000, 1000}}, Setgroups: true,
		Propagation: Slave,
		Mounts: []Mount{
			{Source: "proc", Target: "/proc", Type: "proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
			{Source: "tmpfs", Target: "/tmp", Type: "tmpfs", Data: "mode=700,size=1m"},
			{Source: "sysfs", Target: "/sys", Type: "sysfs", Flags: unix.MS_RDONLY},
		},
		Writes:     []Write{{Path: "/proc/sys/net/ipv4/ip_forward", Data: "1"}, {Path: "/nowhere", Data: "x", Optional: true}},
		Credential: &Credential{UID: 7, GID: 8, Groups: []uint32{9, 10}},
		Path:       "/proc/self/exe", Dir: "/", NoNewPrivs: true,
		Capabilities: &Capabilities{Bounding: 1 << unix.CAP_CHOWN},
	}
	v, c := see(t, s)
	assert.Equal(t, 1, v.PID)
	assert.Equal(t, "1\n", v.Forward)
	require.Len(t, c.Degraded, 1, "the open that may fail, and not what follows from it")
	assert.ErrorIs(t, c.Degraded[0], os.ErrNotExist)
	assert.Contains(t, c.Degraded[0].Error(), `open("/nowhere"`)
	assert.Equal(t, "box", v.Hostname)
	assert.True(t, v.LoopbackUp)
	assert.Equal(t, "7 7 7 7", v.Status["Uid"])
	assert.Equal(t, "8 8 8 8", v.Status["Gid"])
	assert.Equal(t, "9 10", v.Status["Groups"])
	assert.Equal(t, "0000000000000001", v.Status["CapBnd"])
	assert.Equal(t, "0000000000000000", v.Status["CapEff"])
	assert.Equal(t, "0000000000000000", v.Status["CapPrm"])
	for kind, id := range ownNamespaces(t) {
		if kind != "time" {
			assert.NotEqual(t, id, v.Namespaces[kind], kind)
		}
	}
}

func TestTimeOffsets(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UserNamespaces)
	if !timeSupported(t) {
		return
	}
	s := Spec{Namespaces: NewTime, Monotonic: time.Hour, Boottime: 30*time.Second - 1}
	want := `monotonic +3600 +0\nboottime +29 +999999999`
	v, _ := see(t, s)
	assert.Regexp(t, want, v.Offsets)

	s.Path = "/proc/self/exe"
	s.Namespaces |= NewUser
	s.UIDMaps, s.GIDMaps = []IDMap{{0, 100000, 10}}, []IDMap{{0, 100000, 10}}
	v, _ = see(t, s)
	assert.Regexp(t, want, v.Offsets)
}

func TestOffsetText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 0", time.Hour: "3600 0", -1: "-1 999999999", -time.Second: "-1 0", 1500 * time.Millisecond: "1 500000000",
	} {
		assert.Equal(t, want, offset(d), "%d", d)
	}
}

func TestAmbientCapabilities(t *testing.T) {
	testutil.Require(t, testutil.Root)
	caps := CapSet(1<<unix.CAP_CHOWN | 1<<unix.CAP_NET_BIND_SERVICE)
	v, _ := see(t, Spec{Path: "/proc/self/exe", Credential: &Credential{UID: 65534, GID: 65534},
		Capabilities: &Capabilities{Bounding: caps, Permitted: caps, Effective: caps, Inheritable: caps, Ambient: 1 << unix.CAP_CHOWN}})
	assert.Equal(t, "0000000000000001", v.Status["CapEff"])
	assert.Equal(t, "0000000000000001", v.Status["CapAmb"])
	assert.Equal(t, "0000000000000401", v.Status["CapBnd"])
	assert.Equal(t, "65534 65534 65534 65534", v.Status["Uid"])
	assert.Equal(t, "", v.Status["Groups"])
}

// An ordinary user gets all this through a user namespace.
func TestUnprivileged(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	s := Spec{Namespaces: NewUser | NewMount | NewPID | NewIPC | NewUTS | NewNet | NewCgroup, Hostname: "box", Loopback: true,
		UIDMaps: ownIDs, GIDMaps: []IDMap{{0, uint32(os.Getegid()), 1}}, NoNewPrivs: true,
		Mounts: []Mount{{Source: "tmpfs", Target: "/proc/fs", Type: "tmpfs"}}}
	v, _ := see(t, s)
	assert.Equal(t, "0 0 0 0", v.Status["Uid"])
	assert.Equal(t, "box", v.Hostname)
	assert.NotEqual(t, ownNamespaces(t)["user"], v.Namespaces["user"])
}

// A map can be written once, so the kernel refuses the second.
func TestMapsRefused(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	p := program(t, Spec{Namespaces: NewUser, UIDMaps: ownIDs, GIDMaps: []IDMap{{0, uint32(os.Getegid()), 1}}}, "exit", "0")
	require.Equal(t, "uid", p.maps[1].name)
	p.maps = append(p.maps, p.maps[1])
	_, err := p.Start(context.Background())
	var step *StepError
	require.ErrorAs(t, err, &step)
	assert.ErrorIs(t, err, unix.EPERM)
	assert.Contains(t, err.Error(), "/uid_map")
	assert.Contains(t, step.Step, "wait for the parent")
	assert.ErrorIs(t, unix.Kill(step.PID, 0), unix.ESRCH)
}

func TestJoin(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	first, err := program(t, Spec{Namespaces: NewUser | NewUTS | NewNet | NewIPC | NewMount, Hostname: "first",
		UIDMaps: []IDMap{{0, 0, 100}}, GIDMaps: []IDMap{{0, 0, 100}}, Setgroups: true}, "agent", "hang").Start(context.Background())
	require.NoError(t, err)
	defer func() {
		require.NoError(t, unix.PidfdSendSignal(first.PIDFD.Int(), unix.SIGKILL, nil, 0))
		_, err := first.Wait()
		require.NoError(t, err)
		require.NoError(t, first.PIDFD.Close())
	}()
	var s Spec
	want := map[string]string{}
	for _, j := range []struct {
		name string
		kind Namespaces
	}{{"net", NewNet}, {"uts", NewUTS}, {"ipc", NewIPC}, {"mnt", NewMount}, {"user", NewUser}} {
		path := filepath.Join("/proc", strconv.Itoa(first.PID), "ns", j.name)
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		s.Join = append(s.Join, Join{File{int(f.Fd()), path}, j.kind})
		want[j.name], err = os.Readlink(path)
		require.NoError(t, err)
	}
	at := Spec{Join: []Join{{File{first.PIDFD.Int(), "pidfd"}, NewNet | NewUTS | NewIPC | NewMount | NewUser}}}
	for _, s := range []Spec{s, at} {
		before := dumpable()
		v, _ := see(t, s)
		for kind, id := range want {
			assert.Equal(t, id, v.Namespaces[kind], kind)
		}
		assert.Equal(t, "first", v.Hostname)
		assert.Equal(t, before, dumpable())
	}
}

func TestCgroups(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	name := testutil.CgroupName(t)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	s := Spec{Namespaces: NewCgroup}
	var files []*os.File
	for _, m := range mounts {
		dir := filepath.Join(m.Path, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		defer func() { assert.NoError(t, unix.Rmdir(dir)) }()
		if m.V2 {
			f, err := os.Open(dir)
			require.NoError(t, err)
			files = append(files, f)
			s.Cgroup = &File{int(f.Fd()), dir}
			continue
		}
		if err := startCpuset(dir); err != nil {
			require.NoError(t, err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		require.NoError(t, err)
		files = append(files, f)
		s.Tasks = append(s.Tasks, File{int(f.Fd()), f.Name()})
	}
	inside, c := see(t, s)
	for controllers, path := range inside.Cgroups {
		assert.Equal(t, "/", path, "the cgroup namespace is rooted at %q", controllers)
	}
	s.Namespaces = 0
	outside, _ := see(t, s)
	seen := 0
	for _, path := range outside.Cgroups {
		if filepath.Base(path) == name {
			seen++
		}
	}
	assert.Equal(t, len(mounts), seen, "%v", outside.Cgroups)
	for _, f := range files {
		require.NoError(t, f.Close())
	}
	assert.NotZero(t, c.PID)
}

// startCpuset gives a new v1 cpuset what the top has; it is born empty, and
// nobody can join it.
func startCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), b, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A goroutine locked to a thread that has left the process's namespaces gets
// children in those of the process all the same.
func TestStartFromOddThread(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	want := ownNamespaces(t)["uts"]
	p := program(t, Spec{}, "agent", "hang")
	var c *Child
	oddThread(func() {
		if assert.NoError(t, unix.Unshare(unix.CLONE_NEWUTS)) {
			var err error
			c, err = p.Start(context.Background())
			assert.NoError(t, err)
		}
	})
	require.NotNil(t, c)
	got, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(c.PID), "ns/uts"))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, unix.PidfdSendSignal(c.PIDFD.Int(), unix.SIGKILL, nil, 0))
	_, err = c.Wait()
	require.NoError(t, err)
	require.NoError(t, c.PIDFD.Close())
}

// oddThread runs f on a thread that ends afterwards. The main thread cannot
// end, so it is held while another one is made.
func oddThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			oddThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// The kernel keeps the value per process, but sets it for all who share the
// memory, unless the child is in vfork.
func TestOOMScoreAdj(t *testing.T) {
	own := func() string {
		b, err := os.ReadFile("/proc/self/oom_score_adj")
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}
	before := own()
	adj := 777
	v, _ := see(t, Spec{OOMScoreAdj: &adj})
	assert.Equal(t, "777\n", v.OOMScoreAdj)
	assert.Equal(t, before, own())
}
