// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestMain(m *testing.M) {
	if kind, is := strings.CutSuffix(strings.TrimPrefix(filepath.Base(os.Args[0]), "new"), "map"); is {
		os.Exit(mapper(kind, os.Args[1:]))
	}
	testutil.Main(m, map[string]func([]string) int{
		"report":   report,
		"refusals": refusals,
		"look":     look,
		"exit":     func(args []string) int { n, _ := strconv.Atoi(args[0]); return n },
		"agent":    agent,
		"orphans":  orphans,
		"orphan":   orphan,
		"ids":      ids,
	})
}

// view is what a child sees of itself.
type view struct {
	PID        int
	Args, Env  []string
	Dir        string
	Hostname   string
	Namespaces map[string]string
	Files      map[string]string
	Status     map[string]string
	Cgroups    map[string]string // controllers -> path
	Limits     string
	Umask      int
	Session    int
	LoopbackUp bool
	Offsets    string
	Forward    string

	OOMScoreAdj string
	Dumpable    int

	Scheduling string // policy, nice, I/O priority
	Keyring    int
	Abstract   string // the error of connecting to the socket that ABSTRACT names
}

func report([]string) int {
	v := view{PID: os.Getpid(), Args: os.Args, Env: os.Environ(), Namespaces: map[string]string{},
		Files: map[string]string{}, Status: map[string]string{}, Cgroups: map[string]string{}}
	v.Dir, _ = os.Getwd()
	v.Hostname, _ = os.Hostname()
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		v.Namespaces[kind], _ = os.Readlink("/proc/self/ns/" + kind)
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil { // the directory itself is gone again
			v.Files[filepath.Base(fd)] = to
		}
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		v.Status[key] = strings.Join(strings.Fields(value), " ")
	}
	cgroups, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(cgroups)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			v.Cgroups[f[1]] = f[2]
		}
	}
	limits, _ := os.ReadFile("/proc/self/limits")
	v.Limits = string(limits)
	v.Umask = unix.Umask(0)
	v.Session, _ = unix.Getsid(0)
	if flags, err := os.ReadFile("/sys/class/net/lo/flags"); err == nil {
		n, _ := strconv.ParseUint(strings.TrimSpace(string(flags)), 0, 32)
		v.LoopbackUp = n&unix.IFF_UP != 0
	}
	read := func(path string) string { b, _ := os.ReadFile(path); return string(b) }
	v.Offsets = read("/proc/self/timens_offsets")
	v.Forward = read("/proc/sys/net/ipv4/ip_forward")
	v.OOMScoreAdj = read("/proc/self/oom_score_adj")
	v.Dumpable = dumpable()
	if attr, err := unix.SchedGetAttr(0, 0); err == nil {
		io, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
		v.Scheduling = fmt.Sprint(attr.Policy, " ", attr.Nice, " ", io)
	}
	v.Keyring, _ = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if name := os.Getenv("ABSTRACT"); name != "" {
		if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
				v.Abstract = err.Error()
			}
			_ = unix.Close(fd)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return 1
	}
	return 0
}

// see runs the report child under the spec, whose Path, Args and standard
// output it fills in.
func see(t *testing.T, s Spec) (view, *Child) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	s.Args = testutil.ChildArgs(t, "report")
	if s.Path == "" {
		s.Path = s.Args[0]
	}
	if s.Files == nil {
		s.Files = []int{0, int(w.Fd()), 2}
	} else {
		s.Files[1] = int(w.Fd())
	}
	p, err := Compile(s)
	require.NoError(t, err)
	c, err := p.Start(context.Background())
	require.NoError(t, w.Close())
	require.NoError(t, err)
	defer c.PIDFD.Close()
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	status, err := c.Wait()
	require.NoError(t, err)
	require.Zero(t, status.Code, "output %s", out)
	var v view
	require.NoError(t, json.Unmarshal(out, &v), "output %s", out)
	return v, c
}

// program compiles a spec around a child of this test binary.
func program(t testing.TB, s Spec, child string, args ...string) *Program {
	t.Helper()
	s.Args = testutil.ChildArgs(t, child, args...)
	s.Path = s.Args[0]
	p, err := Compile(s)
	require.NoError(t, err)
	return p
}

// ids of this process's own namespaces.
func ownNamespaces(t *testing.T) map[string]string {
	ids := map[string]string{}
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		id, err := os.Readlink("/proc/self/ns/" + kind)
		if kind == "time" && err != nil {
			continue // CONFIG_TIME_NS is an option
		}
		require.NoError(t, err)
		ids[kind] = id
	}
	return ids
}

func TestPlain(t *testing.T) {
	testutil.CheckLeaks(t)
	leak, err := unix.MemfdCreate("caisson-leak", 0) // not close-on-exec
	require.NoError(t, err)
	defer unix.Close(leak)
	umask := uint32(0o27)
	v, c := see(t, Spec{Env: []string{"A=1", "B=zwei"}, Dir: "/proc", Umask: &umask, Setsid: true,
		Rlimits: []Rlimit{{Resource: unix.RLIMIT_MEMLOCK, Soft: 57, Hard: 63}}, NoNewPrivs: true})
	assert.Equal(t, c.PID, v.PID)
	assert.Equal(t, []string{"A=1", "B=zwei"}, v.Env)
	assert.Equal(t, "/proc", v.Dir)
	assert.Equal(t, 0o27, v.Umask)
	assert.Equal(t, v.PID, v.Session)
	assert.Regexp(t, `Max locked memory +57 +63`, v.Limits)
	assert.Equal(t, "1", v.Status["NoNewPrivs"])
	assert.Equal(t, "0000000000000000", v.Status["SigBlk"])
	assert.Equal(t, "0000000000000000", v.Status["SigIgn"])
	pending, err := strconv.ParseUint(v.Status["SigPnd"], 16, 64)
	require.NoError(t, err)
	const preempt = 1 << (unix.SIGURG - 1) // which the Go runtime in there sends itself
	assert.Zero(t, pending&^preempt)
	for fd, file := range v.Files { // the Go runtime in there opens its own
		assert.NotContains(t, file, "caisson-leak", "descriptor %s", fd)
	}
	assert.Equal(t, ownNamespaces(t)["net"], v.Namespaces["net"])
	assert.Empty(t, c.Degraded)
}

func TestIgnoredSignalsAreReset(t *testing.T) {
	signal.Ignore(unix.SIGUSR2)
	defer func() { // Reset would leave it ignored
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, unix.SIGUSR2)
		signal.Stop(ch)
	}()
	v, _ := see(t, Spec{})
	assert.Equal(t, "0000000000000000", v.Status["SigIgn"])
}

// TestAgentFromAShell starts an agent as shells and daemons do: with signals of job
// control ignored, which the Go runtime does not look at, and with a soft limit of
// descriptors, which it raises.
func TestAgentFromAShell(t *testing.T) {
	for _, c := range []struct{ name, soft, does, want string }{
		{"as it was", "100", "keep", "100 200"},
		{"its own", "100", "set", "150 200"},
		{"nothing to raise", "199", "keep", "199 200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := "ulimit -Sn " + c.soft + `; ulimit -Hn 200; trap "" TSTP TTIN TTOU; exec "$@"`
			args := append([]string{"-c", script, "sh"}, testutil.ChildArgs(t, "agent", "inherit", c.does)...)
			cmd := exec.Command("/bin/sh", args...)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			require.NoError(t, err)
			assert.Equal(t, "SigIgn: 0000000000000000 Max open files "+c.want+" files", strings.Join(strings.Fields(string(out)), " "))
		})
	}
}

// inheritAgent starts a child that tells what it got. It is not one of Go, which would
// raise its own limit first, and no shell, of which some ignore signals.
func inheritAgent(does string) int {
	if does == "set" {
		if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 150, Max: 200}); err != nil {
			return 1
		}
	}
	grep, err := exec.LookPath("grep")
	if err != nil {
		return 2
	}
	p, err := Compile(Spec{Path: grep, Args: []string{"grep", "-hE", "SigIgn|Max open files", "/proc/self/status", "/proc/self/limits"}})
	if err != nil {
		return 2
	}
	c, err := p.Start(context.Background())
	if err != nil {
		return 3
	}
	st, err := c.Wait()
	if err != nil || c.PIDFD.Close() != nil {
		return 4
	}
	return st.Code
}

func TestParentIsUntouched(t *testing.T) {
	before := ownStatus(t)
	for range rounds(20) {
		see(t, Spec{})
	}
	after := ownStatus(t)
	for _, key := range []string{"SigBlk", "SigIgn", "SigCgt", "Uid", "CapEff", "NoNewPrivs"} {
		assert.Equal(t, before[key], after[key], key)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		// All but SIGKILL and SIGSTOP: that is how clone blocks them.
		assert.NotContains(t, string(b), "SigBlk:\tfffffffffffbfeff", task)
	}
}

func ownStatus(t *testing.T) map[string]string {
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	m := map[string]string{}
	for line := range bytes.Lines(b) {
		key, value, _ := strings.Cut(string(line), ":")
		m[key] = strings.TrimSpace(value)
	}
	return m
}

func TestExitStatus(t *testing.T) {
	testutil.CheckLeaks(t)
	for _, code := range []int{0, 1, 42, 255} {
		c, err := program(t, Spec{}, "exit", strconv.Itoa(code)).Start(context.Background())
		require.NoError(t, err)
		s, err := c.Wait()
		require.NoError(t, err)
		assert.Equal(t, code, s.Code)
		assert.Zero(t, s.Signal)
		_, err = c.Wait()
		assert.ErrorIs(t, err, unix.ECHILD, "it is reaped already")
		require.NoError(t, c.PIDFD.Close())
	}
}

func TestReap(t *testing.T) {
	testutil.CheckLeaks(t)
	hang := program(t, Spec{}, "agent", "hang")
	c, err := hang.Start(context.Background())
	require.NoError(t, err)
	_, ended, err := c.Reap()
	require.NoError(t, err)
	assert.False(t, ended)
	require.NoError(t, unix.PidfdSendSignal(c.PIDFD.Int(), unix.SIGKILL, nil, 0))
	fds := []unix.PollFd{{Fd: int32(c.PIDFD.Int()), Events: unix.POLLIN}}
	for {
		if _, err = unix.Poll(fds, -1); err != unix.EINTR {
			break
		}
	}
	require.NoError(t, err)
	s, ended, err := c.Reap()
	require.NoError(t, err)
	assert.True(t, ended)
	assert.Equal(t, Status{Code: -1, Signal: unix.SIGKILL, User: s.User, System: s.System}, s)
	require.NoError(t, c.PIDFD.Close())
}

// agent is a process that launches, for tests in which it may be killed.
func agent(args []string) int {
	switch args[0] {
	case "hang":
		for {
			_, _ = unix.Poll(nil, -1)
		}
	case "inherit":
		return inheritAgent(args[1])
	case "oom":
		return oomAgent(args[1:])
	case "announce":
		return announceAgent()
	case "maps":
		return mapsAgent()
	}
	fmt.Fprintln(os.Stderr, "unknown", args)
	return 2
}
