// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cli runs the command, each time as a process of its own.
type cli struct {
	*testing.T
	global []string
}

// newCLI has a state directory and a parent group of its own, which are gone
// when the test ends.
func newCLI(t *testing.T) *cli {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	dir := filepath.Join(t.TempDir(), "state")
	c := &cli{t, []string{"--root", dir, "--parent", testutil.CgroupName(t)}}
	t.Cleanup(func() {
		var left []isolation.Status
		c.json(&left, "list")
		for _, s := range left {
			c.ok("destroy", s.ID)
		}
		c.ok("clean")
		assert.NoDirExists(t, dir)
	})
	return c
}

func (c *cli) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(c, err)
	cmd := exec.Command(exe, append(args[:1:1], append(c.global, args[1:]...)...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// call returns what the command printed and its exit status.
func (c *cli) call(args ...string) (stdout, stderr string, status int) {
	c.Helper()
	var out, errs bytes.Buffer
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint
		require.NoError(c, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok is a call that must work, and be quiet on standard error.
func (c *cli) ok(args ...string) string {
	c.Helper()
	out, errs, status := c.call(args...)
	require.Zero(c, status, "%v: %s%s", args, out, errs)
	require.Empty(c, errs, "%v", args)
	return out
}

// json decodes what a call prints with --json.
func (c *cli) json(to any, args ...string) {
	c.Helper()
	out := c.ok(append(args[:1:1], append([]string{"--json"}, args[1:]...)...)...)
	require.NoError(c, json.Unmarshal([]byte(out), to), "%v: %s", args, out)
}

// fails is a call that must fail with one line and leave nothing.
func (c *cli) fails(status int, text string, args ...string) {
	c.Helper()
	out, errs, got := c.call(args...)
	assert.Equal(c, status, got, "%v: %s", args, errs)
	assert.Empty(c, out, "%v", args)
	assert.Equal(c, 1, strings.Count(errs, "\n"), "%v: %s", args, errs)
	assert.Contains(c, errs, text, "%v", args)
}

func TestRunPassesStatusAndStreams(t *testing.T) {
	c := newCLI(t)
	cmd := c.command("run", "a", "--env", "X=from outside", "--hostname", "box", "--dir", "/proc", "--user", "7:8", "--cap", "none",
		"--", "/bin/sh", "-c", `read line; echo "$line $X $(hostname) $PWD $$"; id -u; id -g; echo warn >&2; exit 42`)
	cmd.Stdin = strings.NewReader("from stdin\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.Error(t, err)
	assert.Equal(t, 42, cmd.ProcessState.ExitCode())
	assert.Equal(t, "from stdin from outside box /proc 1\n7\n8\n", string(out))
	assert.Equal(t, "warn\n", errs.String())

	c.ok("run", "a", "--", "true")
	_, _, status := c.call("run", "a", "--ns", "pid=host", "--", "/bin/sh", "-c", "kill -15 $$")
	assert.Equal(t, 128+15, status)

	var end ran
	c.json(&end, "run", "a", "--", "true")
	assert.Equal(t, "a", end.ID)
	assert.True(t, end.Exit.Known)
}

func TestRootAndExec(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	for _, name := range []string{"etc", "bin"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/name"), []byte("image"), 0o644))
	c.ok("create", "a", "--subgroups", "--rootfs", dir, "--mount", exe+":/bin/caisson:ro", "--init", "--env", asCommand+"=pause", "--", "/bin/caisson")
	out := c.ok("exec", "a", "--env", asCommand+"=1", "--", "/bin/caisson", "help")
	assert.Contains(t, out, "caisson")
	out = c.ok("exec", "a", "--pids-max", "60", "--env", asCommand+"=1", "--", "/bin/caisson", "help")
	assert.Contains(t, out, "caisson")
	_, _, status := c.call("exec", "a", "--env", asCommand+"=1", "--", "/bin/caisson", "no-such-command")
	assert.Equal(t, exitUsage, status)
	c.fails(exitRunNotFound, "/bin/sh", "exec", "a", "--", "/bin/sh")
	c.fails(exitUsage, "no program", "exec", "a")
	assert.Contains(t, c.ok("explain", "a"), "seccomp: on")
	assert.NoFileExists(t, filepath.Join(dir, "bin/caisson"), "the image is as it was")
}

func TestRunFailures(t *testing.T) {
	c := newCLI(t)
	c.fails(exitRunNotFound, "no-such-program", "run", "a", "--", "no-such-program")
	c.fails(exitRunNotFound, "/no/such/program", "run", "a", "--", "/no/such/program")
	c.fails(exitRunPermission, "/proc/version", "run", "a", "--", "/proc/version")
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755))
	c.fails(exitRunNotFound, script, "run", "a", "--", script)
	require.NoError(t, os.WriteFile(script, []byte("neither this nor that"), 0o755))
	c.fails(exitRunPermission, script, "run", "a", "--", script)
	c.fails(exitUsage, "no program", "run", "a")
	c.fails(exitUsage, "no id", "run", "--", "true")
	c.fails(exitUsage, "one id", "run", "a", "b", "--", "true")
	c.fails(exitUsage, "--nonsense", "run", "a", "--nonsense", "--", "true")
	c.fails(exitUsage, "cpu.weight", "run", "a", "--cpu-weight", "20000", "--", "true")
	c.fails(exitUsage, "need", "run", "a", "--ns", "user=new", "--", "true")
	c.fails(exitRunFailed, "", "run", "a", "--dir", "/no/such/dir", "--", "/bin/true")
	assert.Empty(t, c.ok("list"), "nothing is left of them")
}

func TestHostileIDs(t *testing.T) {
	c := newCLI(t)
	ids := []string{"..", "", "a/b", "a b", "-", strings.Repeat("a", 300), "a\nb", ".", "/", "../a", " ", "ä", "a\xff", "a..b", "%s", "*"}
	for i, id := range ids {
		switch i % 3 { // each id with each command would take minutes on a slow machine
		case 0:
			c.fails(exitUsage, "", "run", id, "--", "true")
		case 1:
			c.fails(exitUsage, "", "create", id, "--", "true")
		case 2:
			c.fails(exitUsage, "", "destroy", id)
		}
		args := [][]string{{"check", id}, {"stat", id}, {"watch", id}, {"update", id, "--pids-max", "5"}}[i%4]
		out, errs, status := c.call(args...)
		assert.NotZero(t, status, "%q", args)
		assert.Empty(t, out, "%q", args)
		assert.Equal(t, 1, strings.Count(errs, "\n"), "%q: %s", args, errs)
	}
	assert.Empty(t, c.ok("list"))
}

func TestNotFound(t *testing.T) {
	c := newCLI(t)
	for _, args := range [][]string{{"check", "a"}, {"stat", "a"}, {"watch", "a"}, {"explain", "a"}, {"update", "a", "--pids-max", "5"}, {"update", "a", "--pids-max", "5", "--dry-run"}} {
		c.fails(exitNotFound, "no such sandbox", args...)
	}
	c.ok("destroy", "a")
	c.fails(exitUsage, "no limit", "update", "a")
	c.fails(exitUsage, "no command", "nonsense")
}

// The whole life of a sandbox, each step by another process.
func TestLife(t *testing.T) {
	c := newCLI(t)
	log := filepath.Join(t.TempDir(), "log")
	limits := []string{"--memory-max", "64M", "--pids-max", "50"}
	var st isolation.Status
	c.json(&st, append([]string{"create", "web", "--label", "app=web", "--log", log}, append(limits,
		"--", "/bin/sh", "-c", "echo started; echo problem >&2; exec sleep 1000")...)...)
	assert.Equal(t, isolation.StateRunning, st.State)
	require.NotZero(t, st.PID)
	assert.Equal(t, 1, st.PIDs)
	c.fails(exitFailed, "sandbox", "create", "web", "--", "true")
	c.fails(exitRunFailed, "sandbox", "run", "web", "--", "true")
	c.ok("create", "other", "--label", "app=other", "--", "sleep", "1000")

	var list []isolation.Status
	c.json(&list, "list")
	require.Len(t, list, 2)
	c.json(&list, "list", "--label", "app=web")
	require.Len(t, list, 1)
	assert.Equal(t, st, list[0])
	assert.Contains(t, c.ok("list"), "app=other")
	c.json(&list, "list", "--label", "app=none")
	assert.Equal(t, []isolation.Status{}, list)

	again := isolation.Status{}
	c.json(&again, "check", "web")
	assert.Equal(t, st, again)
	assert.Contains(t, c.ok("check", "web"), "running")

	var plan, done struct {
		Changes []struct{ Path, New, Now string }
	}
	more := []string{"web", "--memory-max", "128M", "--pids-max", "60"}
	c.json(&plan, append([]string{"update", "--dry-run"}, more...)...)
	require.Len(t, plan.Changes, 2)
	assert.Contains(t, c.ok(append([]string{"update"}, append(more, "--dry-run")...)...), "pids.max")
	c.json(&done, append([]string{"update"}, more...)...)
	require.Len(t, done.Changes, 2)
	for i := range done.Changes {
		assert.Equal(t, plan.Changes[i].Path, done.Changes[i].Path)
		assert.Equal(t, plan.Changes[i].New, done.Changes[i].Now)
	}
	assert.Equal(t, "nothing to change\n", c.ok(append([]string{"update"}, more...)...))
	c.fails(exitFailed, "", "update", "web", "--pids-max", "70", "--cpus", "65535")
	c.json(&plan, "update", "web", "--dry-run", "--pids-max", "60")
	assert.Empty(t, plan.Changes, "a refused update changes nothing")

	var m measured
	c.json(&m, "stat", "web")
	assert.Equal(t, cgroups.Bytes(128<<20), m.Stats.Memory.Max)
	assert.Equal(t, cgroups.Count(60), m.Stats.PIDs.Max)
	pids, _ := m.Stats.PIDs.Current.Value()
	assert.Equal(t, uint64(1), pids)
	assert.Equal(t, 3, strings.Count(c.ok("stat"), "\n"), "a heading and two sandboxes")

	var why cgroups.Explanation
	c.json(&why, "explain", "web")
	bound, ok := why.Of("pids.max")
	assert.True(t, ok && bound.Limit == cgroups.Count(60) && strings.HasSuffix(bound.By.Group, "/web"), "%s", bound)
	assert.Contains(t, c.ok("explain", "web"), "pids.max: 60 processes by group ")

	text, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "started\nproblem\n", string(text))

	c.ok("destroy", "web", "nobody")
	c.fails(exitNotFound, "", "check", "web")
	assert.False(t, runs(st.PID), "its process is gone")
	var gone destroyed
	c.json(&gone, "destroy", "other")
	assert.Equal(t, destroyed{"other", true}, gone)
	c.json(&list, "list")
	assert.Empty(t, list)
}

// runs reports whether a process lives; one that its parent has not waited for
// does not.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

// What was asked for holds for the program, and not only in the files.
func TestLimitsHold(t *testing.T) {
	c := newCLI(t)
	assert.Equal(t, "Cpus_allowed_list:\t0\n", c.ok("run", "pinned", "--cpus", "0", "--", "grep", "Cpus_allowed_list", "/proc/self/status"))
	out, _, _ := c.call("run", "few", "--pids-max", "3", "--", "/bin/sh", "-c", "for i in 1 2 3 4 5; do sleep 5 & done; echo started")
	assert.NotContains(t, out, "started", "forks are refused")
	grow := []string{"--memory-max", "8M", "--", "/bin/sh", "-c", "x=x; while :; do x=$x$x; done"}
	_, errs, status := c.call(append([]string{"run", "small", "--memory-swap", "0"}, grow...)...)
	if status == exitRunFailed && strings.Contains(errs, "not supported") { // v1 does not always account swap
		_, errs, status = c.call(append([]string{"run", "small"}, grow...)...)
	}
	assert.Equal(t, 128+9, status, errs)
	assert.Contains(t, errs, "lack of memory")
}

// An exit while nobody looks is seen, though not how it was.
func TestExitIsNoticed(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "short", "--", "true")
	require.Eventually(t, func() bool {
		var st isolation.Status
		c.json(&st, "check", "short")
		return st.State == isolation.StateExited && st.PIDs == 0
	}, testutil.Patience(10*time.Second), 20*time.Millisecond)
	assert.Contains(t, c.ok("list"), "exited")
	c.ok("destroy", "short")
}

func TestSignals(t *testing.T) {
	c := newCLI(t)
	// run starts a program, waits until it says that it is ready, and returns
	// what gives its exit status.
	run := func(script string) (*exec.Cmd, func() int) {
		cmd := c.command("run", "s", "--", "/bin/sh", "-c", script)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		return cmd, func() int {
			_, _ = io.Copy(io.Discard, out)
			_ = cmd.Wait()
			return cmd.ProcessState.ExitCode()
		}
	}
	cmd, status := run(`trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 9, status(), "signals are passed on")

	cmd, status = run(`trap "exit 8" USR1; echo ready; while :; do sleep 0.1; done`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	assert.Equal(t, 8, status())

	cmd, status = run(`trap "" INT TERM; echo ready; exec sleep 1000`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 128+9, status(), "who is deaf is killed at the second request")
}

func TestManyAtOnce(t *testing.T) {
	c := newCLI(t)
	const n = 6
	var wg sync.WaitGroup
	codes, same := make([]int, n), make([]int, n)
	for i := range n {
		wg.Go(func() {
			_, _, codes[i] = c.call("run", fmt.Sprintf("many-%d", i), "--", "/bin/sh", "-c", fmt.Sprintf("exit %d", i))
			_, _, same[i] = c.call("create", "same", "--label", fmt.Sprintf("n=%d", i), "--", "sleep", "1000")
		})
	}
	wg.Wait()
	made := 0
	for i := range n {
		assert.Equal(t, i, codes[i])
		if same[i] == 0 {
			made++
		}
	}
	assert.Equal(t, 1, made, "one of those with the same id")
	var st isolation.Status
	c.json(&st, "check", "same")
	assert.Equal(t, isolation.StateRunning, st.State)
}

// Pressure by the sandbox's own quota is told, then the end.
func TestWatch(t *testing.T) {
	testutil.Require(t, testutil.PSI)
	c := newCLI(t)
	c.ok("create", "hog", "--cpu-max", "0.05", "--", "/bin/sh", "-c", "while :; do :; done")
	cmd := c.command("watch", "--json", "hog", "--pressure", "cpu=20ms/500ms")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	lost := time.AfterFunc(testutil.Patience(30*time.Second), func() { _ = cmd.Process.Kill() })
	defer lost.Stop()

	type event struct {
		Event, ID, Resource string
		Rising              bool
	}
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "an event")
	var ev event
	require.NoError(t, json.Unmarshal(lines.Bytes(), &ev), "%s", lines.Bytes())
	assert.Equal(t, event{"pressure", "hog", "cpu", true}, ev)
	c.ok("destroy", "hog")
	for lines.Scan() {
		ev = event{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &ev), "%s", lines.Bytes())
	}
	assert.Contains(t, []string{"exit", "gone"}, ev.Event, "the last event")
	require.NoError(t, cmd.Wait())
}

func TestStatWatch(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "a", "--", "sleep", "1000")
	cmd := c.command("stat", "a", "--watch", "20ms", "--json")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for range 3 {
		require.True(t, lines.Scan())
		var m measured
		require.NoError(t, json.Unmarshal(lines.Bytes(), &m))
		assert.Equal(t, "a", m.ID)
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	for lines.Scan() { // what was under way
	}
	require.NoError(t, cmd.Wait(), "an interrupt is the end, not a failure")
}

func TestDoctor(t *testing.T) {
	c := newCLI(t)
	var r report
	c.json(&r, "doctor")
	assert.Contains(t, []level{ok, limited}, r.Level)
	found := map[string]level{}
	for _, f := range r.Findings {
		assert.NotEmpty(t, f.Name)
		assert.NotEmpty(t, f.Found+string(f.Level), f.Name)
		assert.NotEmpty(t, f.Follows, f.Name)
		found[f.Name] = f.Level
	}
	for _, name := range []string{
		"kernel", "cgroups", "controller cpu", "unified tree", "pressure", "capabilities", "user namespaces", "seccomp", "bpf", "clone into cgroup",
		"sandbox", "freeze", "kill", "pressure triggers", "cpu limits", "memory limits", "devices",
	} {
		assert.Contains(t, found, name)
	}
	for _, name := range []string{"sandbox", "kernel"} {
		assert.NotEqual(t, missing, found[name], name)
	}
	assert.NotContains(t, found, "clean up")
	text := c.ok("doctor")
	t.Log("\n" + text)
	assert.Contains(t, text, "Sandboxes work here")
}

func TestHelp(t *testing.T) {
	testutil.Require(t, testutil.Real)
	c := &cli{T: t}
	assert.Contains(t, c.ok("--json", "--root=/x", "help"), "destroy", "flags may stand in front")
	c.fails(exitUsage, "no command", "--json")
	c.fails(exitUsage, "--nonsense", "--nonsense", "list")
	assert.Contains(t, c.ok("help"), "destroy")
	for _, cmd := range commands() {
		assert.Contains(t, c.ok(cmd.name, "--help"), "--json", cmd.name)
	}
}

// An ordinary user gets a sentence.
func TestUnprivileged(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	c := &cli{t, []string{"--root", filepath.Join(t.TempDir(), "state"), "--parent", "caisson-test-user"}}
	c.fails(exitRunFailed, "", "run", "a", "--", "true")
	c.fails(exitFailed, "", "list")
	var r report
	c.json(&r, "doctor")
	assert.NotEmpty(t, r.Findings)

	testutil.Require(t, testutil.UserNamespaces)
	found := map[string]level{}
	for _, f := range r.Findings {
		found[f.Name] = f.Level
	}
	assert.Contains(t, []level{ok, limited}, found["sandbox"], "%v", r.Findings)
	assert.Equal(t, limited, found["groups"])
	c.global = append(c.global, "--ungrouped")
	assert.Equal(t, "1\n", c.ok("run", "a", "--", "sh", "-c", "echo $$"))
	c.ok("clean")
}

func TestLogs(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "--logs", "web", "--", "/bin/sh", "-c", "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done")
	_, errs, status := c.call("create", "--logs", "--log", "/dev/null", "x", "--", "true")
	assert.Equal(t, exitUsage, status, errs)

	// Followed to the end of the program, each line comes once; also what no
	// invocation has seen.
	var want strings.Builder
	for n := range 40 {
		fmt.Fprintf(&want, "line %d\n", n)
	}
	assert.Equal(t, want.String(), c.ok("logs", "--follow", "web"))
	assert.Equal(t, want.String(), c.ok("logs", "web"))
	assert.Empty(t, c.ok("logs", "--since", "1ns", "web"))
	assert.Equal(t, want.String(), c.ok("logs", "--since", "1h", "web"))
	var line logLine
	first, _, _ := strings.Cut(c.ok("logs", "--json", "web"), "\n")
	require.NoError(t, json.Unmarshal([]byte(first), &line))
	assert.Equal(t, "line 0", line.Text)
	assert.Equal(t, "stdout", line.Stream)
	assert.False(t, line.Time.IsZero())
	for name, args := range map[string][]string{"read": {"logs"}, "followed": {"logs", "--follow"}} {
		c.ok("create", "--logs", name, "--", "/bin/sh", "-c", "printf 'no end'")
		require.Eventually(t, func() bool { return strings.Contains(c.ok("check", name), "exited") }, testutil.Patience(10*time.Second), 10*time.Millisecond)
		assert.Equal(t, "no end\n", c.ok(append(args, name)...))
	}
	c.ok("destroy", "web")
	_, errs, status = c.call("logs", "web")
	assert.Equal(t, exitNotFound, status, errs)
}
