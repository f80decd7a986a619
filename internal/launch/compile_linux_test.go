// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestExplain(t *testing.T) {
	umask := uint32(0o22)
	p, err := Compile(Spec{
		Path: "/proc/self/exe", Args: []string{"a"}, Files: []int{5, 5, 0}, Dir: "/srv",
		Cgroup: &File{7, "/sys/fs/cgroup/x"}, Tasks: []File{{8, "/sys/fs/cgroup/cpu/x/tasks"}},
		Namespaces: NewMount | NewUTS | NewPID | NewNet | NewUser | NewCgroup,
		UIDMaps:    []IDMap{{0, 1000, 1}}, GIDMaps: []IDMap{{0, 1000, 1}},
		Join:     []Join{{File{9, "/run/ipc"}, NewIPC}},
		Hostname: "box", Mounts: []Mount{{Source: "proc", Target: "/proc", Type: "proc", Flags: 0xe, Data: "hidepid=2"}},
		Loopback: true, Writes: []Write{{Path: "/proc/sys/x", Data: "1", Optional: true}}, Setsid: true, Umask: &umask,
		Rlimits:    []Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 1, Hard: 2, Optional: true}},
		NoNewPrivs: true, Calls: []Call{{Name: "seal()", At: Last, Nr: unix.SYS_GETPID}},
	})
	require.NoError(t, err)
	// Under nohup there is one step more.
	got := regexp.MustCompile(`(?m)^\d+ sigaction\(.*\n`).ReplaceAllString(p.String(), "")
	if n := len(ignoredSignals()); n > 0 {
		got = regexp.MustCompile(`(?m)^\d+ (sig|seal|execve)`).ReplaceAllStringFunc(got, func(m string) string {
			var at int
			var name string
			_, err := fmt.Sscan(m, &at, &name)
			require.NoError(t, err)
			return fmt.Sprintf("%d %s", at-n, name)
		})
	}
	assert.Equal(t, ` 0 clone3(VM|VFORK|PIDFD|PARENT_SETTID|CLEAR_SIGHAND|NEWNS|NEWUTS|NEWUSER|NEWPID|NEWNET|INTO_CGROUP, cgroup 7</sys/fs/cgroup/x>)
 1 wake the parent
 2 write(8</sys/fs/cgroup/cpu/x/tasks>, "0")
 3 wait for the parent to write "deny" to setgroups, write "0 1000 1\n" to uid_map, write "0 1000 1\n" to gid_map
 4 setresgid(0, 0, 0)
 5 setresuid(0, 0, 0)
 6 unshare(NEWCGROUP)
 7 setns(9</run/ipc>, NEWIPC)
 8 sethostname("box")
 9 mount(NULL, "/", NULL, 0x44000, NULL)
10 mount("proc", "/proc", "proc", 0xe, "hidepid=2")
11 socket(2, 0x80002, 0)
12 ioctl(result of 11, 0x8914)
13 close(result of 11)
14 open("/proc/sys/x", 0x80001) (may fail)
15 write(result of 14</proc/sys/x>, "1") (may fail)
16 close(result of 14</proc/sys/x>) (may fail)
17 setsid()
18 fcntl(0, 1030, 6)
19 dup3(5, 0)
20 dup3(5, 1)
21 dup3(result of 18, 2)
22 umask(022)
23 prlimit(RLIMIT_NOFILE, 1, 2) (may fail)
24 setresgid(0, 0, 0)
25 setresuid(0, 0, 0)
26 chdir("/srv")
27 prctl(PR_SET_NO_NEW_PRIVS, 1, 0)
28 close_range(3, 4294967295)
29 sigtimedwait(...)
30 sigprocmask(...)
31 seal()
32 execve("/proc/self/exe")
`, got)
}

// TestFiles plays the steps that move descriptors on a table of them.
func TestFiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		files := make([]int, rng.IntN(8))
		for i := range files {
			files[i] = rng.IntN(11) - 1
		}
		table := map[int]string{}
		for fd := range 10 {
			table[fd] = string(rune('a' + fd))
		}
		var p Program
		p.files(files)
		p.finish(cloneArgs{})
		want := map[int]string{}
		for place, fd := range files {
			if fd >= 0 {
				want[place] = table[fd]
			}
		}
		results := map[int]int{}
		for i, st := range p.steps {
			a := int(st.args[0])
			if from, ok := p.source(i, 0); ok {
				a = results[from]
			}
			switch st.nr {
			case unix.SYS_FCNTL:
				require.Contains(t, table, a)
				if st.args[1] == unix.F_DUPFD_CLOEXEC {
					free := int(st.args[2])
					for table[free] != "" {
						free++
					}
					table[free], results[i] = table[a], free
				}
			case unix.SYS_DUP3:
				require.Contains(t, table, a)
				require.NotEqual(t, a, int(st.args[1]), "dup3 refuses that")
				table[int(st.args[1])] = table[a]
			case unix.SYS_CLOSE_RANGE:
				delete(table, a)
			}
		}
		for fd := range table {
			if fd >= len(files) {
				delete(table, fd) // close_range, later
			}
		}
		require.Equal(t, want, table, "files %v", files)
	}
}

// FuzzCompile holds that a spec either is refused with a typed error, or gives
// a program that is whole: every address in it points into the arena, every
// string is where execve will look for it, and execve is its last step.
func FuzzCompile(f *testing.F) {
	f.Add("/proc/self/exe", "a b", "A=1", "/", uint32(0), "box", "/proc", "proc", []byte{0, 1, 2}, int64(0), uint64(0), uint32(0))
	f.Add("/proc/self/exe", "", "", "", uint32(allNamespaces), "", "", "", []byte{}, int64(-1), uint64(1<<21), uint32(7))
	f.Add("/x\x00", "\x00", "\x00", "\x00", uint32(1), "\x00", "\x00", "\x00", []byte{255, 200}, int64(1<<62), ^uint64(0), ^uint32(0))
	f.Fuzz(func(t *testing.T, path, args, env, dir string, ns uint32, host, target, fstype string, files []byte, clock int64, caps uint64, id uint32) {
		s := Spec{Path: path, Args: strings.Split(args, " "), Env: strings.Fields(env), Dir: dir, Namespaces: Namespaces(ns), Hostname: host,
			Monotonic: time.Duration(clock), Credential: &Credential{UID: id, GID: id}, Capabilities: &Capabilities{Bounding: CapSet(caps)},
			Loopback: ns&1 != 0, NoNewPrivs: true, Tasks: []File{{int(id), target}}}
		if target != "" {
			s.Mounts = []Mount{{Source: host, Target: target, Type: fstype, Data: args}}
			s.Writes = []Write{{Path: target, Data: env}}
		}
		for _, fd := range files {
			s.Files = append(s.Files, int(int8(fd)))
		}
		if ns&uint32(NewUser) != 0 {
			s.UIDMaps, s.GIDMaps = []IDMap{{id, id, 1}}, []IDMap{{0, 0, id}}
		}
		p, err := Compile(s)
		if err != nil {
			var se *SpecError
			var pe *fs.PathError
			if !errors.As(err, &se) && !errors.As(err, &pe) && !errors.Is(err, ErrNotSupported) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			if p != nil {
				t.Fatal("a program besides an error")
			}
			return
		}
		checkWhole(t, p, &s)
	})
}

func checkWhole(t *testing.T, p *Program, s *Spec) {
	a := p.load()
	defer a.free()
	base := uint64(uintptr(unsafe.Pointer(&a.words[0])))
	end := base + uint64(len(a.words))*8
	for _, r := range p.relocs {
		if w := a.words[r]; w < base || w >= end {
			t.Fatalf("word %d points out of the arena", r)
		}
	}
	steps := a.steps()
	exec := steps[len(steps)-2]
	if exec.nr != unix.SYS_EXECVE || steps[len(steps)-1].nr != unix.SYS_EXIT_GROUP {
		t.Fatal("the program does not end in execve")
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&a.words[0])), len(a.words)*8)
	text := func(addr uint64) string {
		b := raw[addr-base:]
		return string(b[:bytes.IndexByte(b, 0)])
	}
	vector := func(addr uint64) (list []string) {
		for i := (addr - base) / 8; a.words[i] != 0; i++ {
			list = append(list, text(a.words[i]))
		}
		return list
	}
	if text(exec.args[0]) != s.Path {
		t.Fatalf("path %q", text(exec.args[0]))
	}
	assert.Equal(t, s.Args, vector(exec.args[1]))
	assert.ElementsMatch(t, s.Env, vector(exec.args[2]))
	for i, st := range p.Steps() {
		if st.Text == "" {
			t.Fatalf("step %d has no text", i)
		}
	}
}

func TestImageArgumentsHaveOwnAddresses(t *testing.T) {
	var p Program
	p.add(unix.SYS_SETGROUPS, 0, []byte{}) // an empty buffer still is somewhere
	p.add(unix.SYS_EXECVE, "", p.vector(nil), p.vector([]string{"", "x"}))
	p.finish(cloneArgs{})
	checkWhole(t, &p, &Spec{Env: []string{"", "x"}})
}

func TestUnmounts(t *testing.T) {
	p, err := Compile(Spec{Path: "/proc/self/exe", Namespaces: NewMount, Unmounts: []string{"/run/netns"}})
	require.NoError(t, err)
	assert.Regexp(t, `(?s)mount\(NULL, "/", NULL, 0x44000, NULL\)\n *\d+ umount\("/run/netns", 0x2\)`, p.String())
	for _, bad := range []Spec{{Path: "/x", Unmounts: []string{"/run"}}, {Path: "/x", Namespaces: NewMount, Unmounts: []string{""}},
		{Path: "/x", Namespaces: NewMount, Unmounts: []string{"/a\x00"}}} {
		_, err := Compile(bad)
		var spec *SpecError
		assert.ErrorAs(t, err, &spec)
	}
}

// Either the child has the ticket, or it does not come to its program.
func TestTicket(t *testing.T) {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(fd)
	s := Spec{Args: testutil.ChildArgs(t, "exit", "7"), Ticket: &File{fd, "ticket"}}
	s.Path = s.Args[0]
	p, err := Compile(s)
	require.NoError(t, err)
	c, err := p.Start(t.Context())
	require.NoError(t, err)
	status, err := c.Wait()
	require.NoError(t, err)
	assert.Equal(t, 7, status.Code)
	require.NoError(t, c.PIDFD.Close())
	_, err = unix.Read(fd, make([]byte, 8))
	require.ErrorIs(t, err, unix.EAGAIN)
	_, err = p.Start(t.Context())
	var step *StepError
	require.ErrorAs(t, err, &step)
	assert.Equal(t, fmt.Sprintf("read(%d<ticket>)", fd), step.Step)
	s.Ticket.FD = -1
	var bad *SpecError
	_, err = Compile(s)
	require.ErrorAs(t, err, &bad)
}
