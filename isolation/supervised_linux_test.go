// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// childTalk reads a line, which is a status to exit with or a text to say.
func childTalk([]string) int {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if n, err := strconv.Atoi(in.Text()); err == nil {
			return childExit([]string{in.Text(), strconv.Itoa(n)})
		}
		fmt.Println("said", in.Text())
	}
	return 0
}

// childKeeper is an agent with a supervisor. It starts sandboxes args[2:], whose
// pipes it leaves with the supervisor, and waits to be killed.
func childKeeper(args []string) int {
	ctx := context.Background()
	cfg := supervisedBy(os.Args[:2], isolation.Config{Root: args[0], Parent: args[1]})
	h, err := isolation.Open(ctx, cfg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, id := range args[2:] {
		s, err := h.Create(ctx, isolation.Spec{
			ID: id, Process: isolation.Process{Args: []string{os.Args[0], os.Args[1], "talk"}},
			Namespaces: isolation.Namespaces{PID: isolation.NamespaceHost}, // or no signal could end it from within
		})
		if err == nil {
			err = startKept(ctx, s)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("started")
	return pause()
}

// startKept starts the sandbox with pipes that the supervisor keeps.
func startKept(ctx context.Context, s *isolation.Sandbox) error {
	in, toIn, err := os.Pipe()
	if err != nil {
		return err
	}
	fromOut, out, err := os.Pipe()
	if err != nil {
		return err
	}
	err = s.Keep(ctx, "stdio", toIn, fromOut)
	if err == nil {
		err = s.Start(ctx, in, out, os.Stderr)
	}
	for _, f := range []*os.File{in, toIn, fromOut, out} {
		err = errors.Join(err, f.Close())
	}
	return err
}

// supervisedBy is cfg with this test binary, which argv begins with, as supervisor.
func supervisedBy(argv []string, cfg isolation.Config) isolation.Config {
	cfg.Supervisor = append(append([]string(nil), argv...), "supervise")
	isolation.Deaf(&cfg)
	return cfg
}

// supervisedConfig is that of a host of the test's own, with a supervisor.
func supervisedConfig(t testing.TB) isolation.Config {
	t.Helper()
	return supervisedBy(testutil.ChildArgs(t, "")[:2], config(t))
}

// keeper runs an agent that starts these sandboxes, and kills it.
func keeper(t *testing.T, cfg isolation.Config, ids ...string) {
	t.Helper()
	agent := testutil.Child(t, "keeper", append([]string{cfg.Root, cfg.Parent}, ids...)...)
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	require.NoError(t, agent.Process.Kill())
	require.Error(t, agent.Wait())
}

// stdio are the pipes that a keeper has left.
func stdio(t *testing.T, h *isolation.Host, id string) (in, out *os.File) {
	t.Helper()
	s, err := h.Sandbox(deadline(t), id)
	require.NoError(t, err)
	files, err := s.Kept(deadline(t), "stdio")
	require.NoError(t, err)
	require.Len(t, files, 2)
	t.Cleanup(func() { _, _ = files[0].Close(), files[1].Close() })
	return files[0], files[1]
}

func wait(t testing.TB, h *isolation.Host, id string) isolation.ExitStatus {
	t.Helper()
	s, err := h.Sandbox(deadline(t), id)
	require.NoError(t, err)
	st, err := s.Wait(deadline(t))
	require.NoError(t, err)
	return st
}

// supervisorPID is the supervisor's process, as its group has it.
func supervisorPID(t *testing.T, h *isolation.Host) int {
	t.Helper()
	g, err := h.Root().Open(h.Parent().Path() + "/_supervisor")
	require.NoError(t, err)
	defer g.Close()
	pids, err := g.Procs(nil)
	require.NoError(t, err)
	require.Len(t, pids, 1)
	return pids[0]
}

// How a process ended is known to the next agent, whether that is there at the time
// or not; and its pipes come back with what nobody has read.
func TestSupervised(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	cfg.Journal = 1 << 16
	keeper(t, cfg, "code", "signal", "late")

	// An agent that is only there to let two of them end while none is.
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	in, out := stdio(t, h, "code")
	signal, _ := stdio(t, h, "signal")
	require.NoError(t, h.Close())
	_, err = in.WriteString("hello\n7\n")
	require.NoError(t, err)
	_, err = signal.WriteString(strconv.Itoa(128+int(syscall.SIGTERM)) + "\n")
	require.NoError(t, err)
	ended := func(id string) bool {
		_, err := os.Stat(filepath.Join(cfg.Root, "supervisor", id+".state"))
		return err == nil
	}
	require.Eventually(t, func() bool { return ended("code") && ended("signal") }, testutil.Patience(20*time.Second), time.Millisecond)

	h = openWith(t, cfg)
	for _, r := range h.Recovered() {
		assert.True(t, r.Adopted, r)
	}
	st := wait(t, h, "code")
	assert.Equal(t, "exit status 7", st.String())
	told := 0
	for e, err := range h.Journal() {
		require.NoError(t, err)
		if e.ID == "code" && e.Event == "exit" {
			told++
		}
	}
	assert.Equal(t, 1, told, "of the exit, in the journal")
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "said hello\n", line, "written while no agent lived")
	st = wait(t, h, "signal")
	assert.Equal(t, isolation.ExitStatus{Known: true, Code: 128 + int(syscall.SIGTERM), Signal: int(syscall.SIGTERM), At: st.At}, st)
	assert.False(t, ended("code") || ended("signal"), "they are acknowledged")

	late, _ := stdio(t, h, "late")
	_, err = late.WriteString("9\n")
	require.NoError(t, err)
	assert.Equal(t, "exit status 9", wait(t, h, "late").String())
	require.Eventually(t, func() bool { return !ended("late") }, testutil.Patience(20*time.Second), time.Millisecond)
	status, err := h.Check(deadline(t), "late")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateExited, status.State)
}

// The agent that starts hears of the end as well, and what a start refuses is told
// as without a supervisor.
func TestSupervisedStart(t *testing.T) {
	testutil.CheckLeaks(t)
	own := supervisedConfig(t)
	own.Network.Pins = filepath.Join(t.TempDir(), "pins")
	h := openWith(t, own)
	for name, c := range map[string]struct {
		arg  string
		want string
	}{"code": {"7", "exit status 7"}, "signal": {"143", "signal 15"}, "fine": {"0", "exit status 0"}} {
		sp := spec(t, name, "exit", c.arg)
		sp.Namespaces.PID = isolation.NamespaceHost // or no signal could end it from within
		s := create(t, h, sp)
		require.NoError(t, s.Start(deadline(t)))
		assert.Equal(t, c.want, wait(t, h, name).String())
		require.NoError(t, s.Destroy(deadline(t)))
	}
	s := create(t, h, isolation.Spec{ID: "nodir", Process: isolation.Process{Args: testutil.ChildArgs(t, "exit", "0"), Dir: "/nowhere"}})
	err := s.Start(deadline(t))
	var step *isolation.StepError
	require.ErrorAs(t, err, &step)
	require.ErrorIs(t, err, fs.ErrNotExist)
	status, err := s.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, isolation.StateCreated, status.State)

	// In a network and a user namespace of its own, it is born in the former.
	in := spec(t, "in", "whoami")
	in.Network = netns.Spec{Mode: netns.ModeNew}
	in.Namespaces.User = isolation.NamespaceNew
	in.Namespaces.UIDMap = namespaces.IDMaps{{Inside: 0, Outside: 0, Count: 1}, {Inside: 1, Outside: 100000, Count: 1000}}
	in.Namespaces.GIDMap = in.Namespaces.UIDMap
	box := create(t, h, in)
	out := run(t, box)
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Contains(t, string(text), "pid=1 uid=0")

	require.ErrorIs(t, box.Keep(deadline(t), "bad name", os.Stdin), isolation.ErrInvalid)
	require.ErrorIs(t, box.Keep(deadline(t), "nil", nil), isolation.ErrInvalid)
	plain := open(t)
	require.ErrorIs(t, create(t, plain, spec(t, "x", "exit", "0")).Keep(deadline(t), "x"), isolation.ErrNotSupported)

	cfg := config(t)
	cfg.Supervisor = []string{"caisson", "supervise"}
	_, err = isolation.Open(deadline(t), cfg)
	require.ErrorIs(t, err, isolation.ErrInvalid)
	cfg.Supervisor = testutil.ChildArgs(t, "exit", "3")
	wrong := openWith(t, cfg)
	err = create(t, wrong, spec(t, "x", "exit", "0")).Start(deadline(t))
	require.ErrorContains(t, err, "is no supervisor: it ended with status 3")
}

// An end that the agent has written down and not acknowledged when it died is
// acknowledged by the next; one that it has not written down is told.
func TestSupervisedAcknowledged(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	cfg := supervisedConfig(t)
	keeper(t, cfg, "x", "y")
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	pid := supervisorPID(t, h)
	in, _ := stdio(t, h, "x")
	file := filepath.Join(cfg.Root, "supervisor", "x.state")
	require.NoError(t, h.Close())
	_, err = in.WriteString("7\n")
	require.NoError(t, err)
	var text []byte
	require.Eventually(t, func() bool {
		text, err = os.ReadFile(file)
		return err == nil && strings.HasSuffix(string(text), "\n")
	}, testutil.Patience(20*time.Second), time.Millisecond)
	h, err = isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	require.Equal(t, "exit status 7", wait(t, h, "x").String())
	require.NoError(t, h.Close())
	_, err = os.Stat(file)
	require.ErrorIs(t, err, fs.ErrNotExist)

	// As if it had not come to that; and both are killed now.
	require.NoError(t, os.WriteFile(file, text, 0o600))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	h = openWith(t, cfg)
	require.Equal(t, "exit status 7", wait(t, h, "x").String())
	_, err = os.Stat(file)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// With agent and supervisor killed the status is plainly unknown, and the sandbox is
// there and can be destroyed.
func TestSupervisedBothKilled(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	keeper(t, cfg, "x", "y")
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	pid := supervisorPID(t, h)
	in, _ := stdio(t, h, "x")
	_, _ = stdio(t, h, "y") // so that it does not end by the end of its input
	require.NoError(t, h.Close())
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	_, err = in.WriteString("7\n")
	require.NoError(t, err)

	without := cfg
	without.Supervisor = nil
	h, err = isolation.Open(t.Context(), without)
	require.NoError(t, err)
	y, err := h.Sandbox(deadline(t), "y")
	require.NoError(t, err)
	assert.ErrorIs(t, y.Keep(deadline(t), "stdio", os.Stdin), isolation.ErrNotSupported, "none runs, and none may be started")
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	st := wait(t, h, "x")
	assert.Equal(t, isolation.ExitStatus{At: st.At}, st)
	assert.Equal(t, "unknown", st.String())
	status, err := h.Check(deadline(t), "y")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, status.State)
	y, err = h.Sandbox(deadline(t), "y")
	require.NoError(t, err)
	files, err := y.Kept(deadline(t), "stdio")
	require.NoError(t, err)
	assert.Empty(t, files)
	require.NoError(t, y.Destroy(deadline(t)))
}

// A supervisor that is killed while the agent lives: its sandboxes go on, with an
// unknown end, and the next start has another one.
func TestSupervisorKilled(t *testing.T) {
	testutil.CheckLeaks(t)
	h := openWith(t, supervisedConfig(t))
	old := started(t, h, spec(t, "old", "wait"))
	pid := supervisorPID(t, h)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))

	s := create(t, h, spec(t, "new", "exit", "7"))
	require.NoError(t, s.Start(deadline(t)))
	assert.Equal(t, "exit status 7", wait(t, h, "new").String())
	assert.NotEqual(t, pid, supervisorPID(t, h))
	require.NoError(t, old.Signal(deadline(t), syscall.SIGKILL))
	assert.Equal(t, "unknown", wait(t, h, "old").String())
}

// A supervisor that is killed while it is being asked to start something: another one
// starts it.
func TestSupervisorKilledInStart(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	h := openWith(t, cfg)
	old := started(t, h, spec(t, "old", "wait"))
	pid := supervisorPID(t, h)
	stop(t, pid)
	s := create(t, h, spec(t, "new", "exit", "7"))
	started := make(chan error)
	go func() { started <- s.Start(deadline(t)) }()
	require.Eventually(t, func() bool { // its record has the intent when it has been asked, or nearly so
		text, err := os.ReadFile(filepath.Join(cfg.Root, "sandboxes", "new.state"))
		return err == nil && strings.Contains(string(text), `"starting":true`)
	}, testutil.Patience(20*time.Second), time.Millisecond)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.NoError(t, <-started)
	assert.Equal(t, "exit status 7", wait(t, h, "new").String())
	require.NoError(t, old.Destroy(deadline(t)))
}

// A supervisor that is stopped holds up nobody for longer than his context.
func TestSupervisorFrozen(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	h := openWith(t, supervisedConfig(t))
	old := started(t, h, spec(t, "old", "wait"))
	killed := started(t, h, spec(t, "killed", "wait"))
	pid := supervisorPID(t, h)
	stop(t, pid)
	thaw := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(thaw)
	ctx, cancel := context.WithTimeout(deadline(t), 200*time.Millisecond)
	defer cancel()
	s := create(t, h, spec(t, "new", "exit", "7")) // which does not need it
	err := s.Start(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "does not answer")
	require.NoError(t, old.Signal(deadline(t), syscall.SIGKILL))
	_, err = old.Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it will be known")
	require.NoError(t, killed.Destroy(deadline(t)), "nobody waits for it then")
	thaw()
	assert.Equal(t, "signal 9", wait(t, h, "old").String())
	require.NoError(t, s.Start(deadline(t)))
	assert.Equal(t, "exit status 7", wait(t, h, "new").String())
}

// A hundred sandboxes have one supervisor, which has nothing of them afterwards.
func TestSupervisedMany(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Real)
	const n = 100
	h := openWith(t, supervisedConfig(t))
	first := started(t, h, spec(t, "first", "wait"))
	status, err := first.Check(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, oomScore(t, "self"), oomScore(t, strconv.Itoa(status.PID)), "the agent's, not the supervisor's")
	pid := supervisorPID(t, h)
	count := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		require.NoError(t, err)
		return len(list)
	}
	before := count()
	for i := range n {
		s := create(t, h, spec(t, fmt.Sprint("s", i), "wait"))
		require.NoError(t, s.Keep(deadline(t), "in", os.Stderr))
		require.NoError(t, s.Start(deadline(t)))
	}
	assert.Equal(t, pid, supervisorPID(t, h))
	assert.GreaterOrEqual(t, count(), before+2*n)
	for i := range n {
		require.NoError(t, h.Destroy(deadline(t), fmt.Sprint("s", i)))
	}
	assert.LessOrEqual(t, count(), before+4, "connections, perhaps")
	require.NoError(t, first.Destroy(deadline(t)))
}

// stop stops a process, and returns when every thread of it stands still.
func stop(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		require.NoError(t, err)
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err == nil && !strings.Contains(string(text), ") T ") {
				return false
			}
		}
		return len(tasks) > 0
	}, testutil.Patience(20*time.Second), time.Millisecond)
}

func oomScore(t *testing.T, process string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + process + "/oom_score_adj")
	require.NoError(t, err)
	return string(text)
}

// With a supervisor that is stopped a host does not open, and says why.
func TestSupervisorFrozenAtOpen(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	keeper(t, cfg, "x")
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	pid := supervisorPID(t, h)
	in, _ := stdio(t, h, "x")
	require.NoError(t, h.Close())
	stop(t, pid)
	ctx, cancel := context.WithTimeout(deadline(t), testutil.Patience(200*time.Millisecond))
	defer cancel()
	_, err = isolation.Open(ctx, cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "if it is stopped, let it go on, or end it")
	_, err = in.WriteString("7\n")
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	h = openWith(t, cfg)
	assert.Equal(t, "exit status 7", wait(t, h, "x").String())
}

// Hosts that share a directory share the supervisor, and each hears of the end.
func TestSupervisedShared(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	cfg.Shared = true
	h := openWith(t, cfg)
	other, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	box := create(t, h, spec(t, "x", "talk"))
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, box.Start(deadline(t), in))
	require.NoError(t, in.Close())
	twin, err := other.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	_, err = toIn.WriteString("7\n")
	require.NoError(t, err)
	require.NoError(t, toIn.Close())
	st, err := twin.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, "exit status 7", st.String())
	assert.Equal(t, "exit status 7", wait(t, h, "x").String())
	require.NoError(t, other.Close())
}

// A terminal outlives the agent.
func TestSupervisedTerminal(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s := spec(t, "x", "talk")
	s.Process.Terminal = true
	box := create(t, h, s)
	term, err := isolation.NewTerminal()
	require.NoError(t, err)
	require.NoError(t, box.Keep(deadline(t), "terminal", term.PTY()))
	require.NoError(t, box.Start(deadline(t), term.TTY(), term.TTY(), term.TTY()))
	require.NoError(t, term.Close())
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	box, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	files, err := box.Kept(deadline(t), "terminal")
	require.NoError(t, err)
	require.Len(t, files, 1)
	term = isolation.TerminalOf(files[0])
	defer term.Close()
	_, err = term.Write([]byte("hello\n"))
	require.NoError(t, err)
	lines := bufio.NewScanner(term)
	for lines.Scan() && lines.Text() != "said hello" { // behind the echo
	}
	require.NoError(t, lines.Err())
	assert.Equal(t, "said hello", lines.Text())
	_, err = term.Write([]byte("7\n"))
	require.NoError(t, err)
	assert.Equal(t, "exit status 7", wait(t, h, "x").String())
}

// What a workload has left in the pipe of its log when it ends while no agent lives is
// there for the next one.
func TestSupervisedLog(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s := spec(t, "x", "talk")
	s.Logs = &logs.Config{Block: true}
	box := create(t, h, s)
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, box.Start(deadline(t), in))
	require.NoError(t, in.Close())
	require.ErrorIs(t, box.Keep(deadline(t), "_log", os.Stdin), isolation.ErrInvalid)
	require.NoError(t, h.Close())
	_, err = toIn.WriteString("hello\n7\n")
	require.NoError(t, err)
	require.NoError(t, toIn.Close())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(cfg.Root, "supervisor", "x.state"))
		return err == nil
	}, testutil.Patience(20*time.Second), time.Millisecond)

	h = openWith(t, cfg)
	box, err = h.Sandbox(deadline(t), "x")
	require.NoError(t, err)
	assert.Equal(t, "exit status 7", wait(t, h, "x").String())
	require.NoError(t, box.Logs().Finish())
	var said []string
	for line, err := range logs.Read(box.LogDirectory(), logs.CRI) {
		require.NoError(t, err)
		said = append(said, string(line.Text))
	}
	assert.Equal(t, []string{"said hello"}, said)
}

// Where a start was cut off, the supervisor knows which process it has left.
func TestSupervisedCutOff(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := supervisedConfig(t)
	keeper(t, cfg, "x")
	// As the record was before the process had its line there.
	path := filepath.Join(cfg.Root, "sandboxes", "x.state")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	var cut []string
	for _, l := range lines {
		if strings.Contains(l, `"pid":`) {
			break
		}
		cut = append(cut, l)
	}
	require.Less(t, len(cut), len(lines)-1)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(cut, "")), 0o600))
	root, err := cgroups.Open("")
	require.NoError(t, err)
	defer root.Close()
	g, err := root.Open(cfg.Parent + "/x")
	require.NoError(t, err)
	defer g.Close()
	if err := g.SetLabel("process", "nothing"); !errors.Is(err, isolation.ErrNotSupported) { // before Linux 5.7
		require.NoError(t, err)
	}
	h := openWith(t, cfg)
	in, _ := stdio(t, h, "x")
	_, err = in.WriteString("7\n")
	require.NoError(t, err)
	assert.Equal(t, "exit status 7", wait(t, h, "x").String())
}
