// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation/supervisor"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/crash/truth"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	const reaped = "CAISSON_CRASH_REAPED"
	tests := len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-")
	if tests && os.Getenv(reaped) == "" {
		os.Exit(reap(append(os.Environ(), reaped+"=1")))
	}
	testutil.Main(m, map[string]func([]string) int{
		"agent": childAgent, "box": childBox, "supervise": func([]string) int { return supervisor.Main() },
	})
}

// reap runs the tests in a child, and waits at once for the processes that agents
// leave behind: a machine's init may take seconds, for which a pid namespace does
// not end.
func reap(env []string) int {
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		panic(errno)
	}
	runtime.LockOSThread() // with which the child is to die
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	tests, err := syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		panic(err)
	}
	for {
		var ws syscall.WaitStatus
		if pid, err := syscall.Wait4(-1, &ws, 0, nil); err == nil && pid == tests {
			return ws.ExitStatus()
		}
	}
}

// childBox is the program of a sandbox: it writes numbered lines.
func childBox([]string) int {
	for n := 0; ; n++ {
		_, _ = os.Stdout.WriteString(strconv.Itoa(n) + "\n")
		time.Sleep(20 * time.Millisecond)
	}
}

// lab is one state directory, the agents on it, and what should be there.
type lab struct {
	t      testing.TB
	place  place
	mark   string
	random *rand.Rand
	trees  int // that a whole sandbox is in

	boxes map[string][]box // by id, what each may be: one, or two if an operation was cut off
	kills int
	lines int // of logs, that were looked at

	orphans map[string]bool // sandboxes that have had processes of a supervisor that was killed
	did     string          // what the last kill cut off

	tracer  *tracer
	in      io.WriteCloser
	answers chan answer
}

func newLab(t testing.TB) *lab {
	testutil.Require(t, testutil.Root, testutil.NetAdmin)
	machine, err := namespaces.Create(namespaces.Network)
	require.NoError(t, err)
	pinned := filepath.Join(t.TempDir(), "machine")
	require.NoError(t, machine.Pin(pinned))
	l := &lab{t: t, mark: "mark-" + testutil.CgroupName(t), boxes: make(map[string][]box), random: rand.New(rand.NewPCG(1, 2))}
	l.place = place{
		Root: filepath.Join(t.TempDir(), "state"), Parent: testutil.CgroupName(t), Machine: pinned,
		Pins: filepath.Join(t.TempDir(), "pins"), Box: append(testutil.ChildArgs(t, "box"), l.mark),
	}
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		l.place.OOMGroup = l.place.OOMGroup || m.V2 && slices.Contains(m.Controllers, "memory")
	}
	t.Cleanup(func() {
		if l.tracer != nil {
			l.tracer.kill()
			<-l.tracer.over
		}
		if t.Failed() { // what is left of the sandboxes' groups the test's name ends
			pins, _ := os.ReadDir(l.place.Pins)
			for _, p := range pins {
				_ = syscall.Unmount(filepath.Join(l.place.Pins, p.Name()), syscall.MNT_DETACH)
			}
			_ = syscall.Unmount(l.place.Pins, syscall.MNT_DETACH)
		}
		assert.NoError(t, namespaces.Unpin(pinned))
		assert.NoError(t, machine.Close())
	})
	return l
}

// supervisorName is what the supervisor's command line ends with.
const supervisorName = "supervisor"

// supervised has a supervisor.
func (l *lab) supervised() {
	l.place.Supervisor = append(testutil.ChildArgs(l.t, "supervise"), l.mark, supervisorName)
	l.orphans = make(map[string]bool)
}

// supervisors are the processes that are one.
func (l *lab) supervisors() []int {
	l.t.Helper()
	is, err := truth.Look(l.place.Parent, l.place.records(), l.mark)
	require.NoError(l.t, err)
	return is.Processes[supervisorName]
}

// trySupervisor does c and kills the supervisor in front of its n-th call. It reports
// false if there were fewer; then it is killed after them.
func (l *lab) trySupervisor(c command, n int) bool {
	l.t.Helper()
	pids := l.supervisors()
	require.Len(l.t, pids, 1, "supervisors, after %s", l.did)
	sup, err := traceOther(pids[0])
	require.NoError(l.t, err)
	sup.arm(n)
	a, answered := l.tell(c)
	calls, killed, last := sup.disarm()
	l.did = fmt.Sprintf("%+v with the supervisor killed in front of %s", c, last)
	if !killed {
		l.did = fmt.Sprintf("%+v and the %d calls of the supervisor", c, calls)
	}
	require.True(l.t, answered, "the agent died of %s", l.did)
	sup.kill()
	<-sup.over
	l.kills++
	l.boxes[c.ID] = []box{l.box(c.ID).after(c)}
	if a.Err != "" {
		require.True(l.t, killed, "%s: %s", l.did, a.Err)
		require.Contains(l.t, a.Err, "the process may have run", l.did)
		before := l.box(c.ID)
		switch c.Op {
		case "start":
			before.started, before.running = false, false
		case "exec":
			before.execs--
		}
		if l.boxes[c.ID] = []box{before}; c.Op == "exec" {
			l.boxes[c.ID] = append(l.boxes[c.ID], before.after(c))
		}
	}
	for id := range l.boxes {
		l.orphans[id] = true
	}
	return killed
}

// start runs an agent.
func (l *lab) start() {
	l.t.Helper()
	where, err := json.Marshal(l.place)
	require.NoError(l.t, err)
	cmd := testutil.Child(l.t, "agent", string(where), l.mark)
	l.in, err = cmd.StdinPipe()
	require.NoError(l.t, err)
	// A pipe that ends with the agent, not with its children.
	out, w, err := os.Pipe()
	require.NoError(l.t, err)
	cmd.Stdout = w
	l.tracer, err = trace(cmd)
	require.NoError(l.t, err)
	require.NoError(l.t, w.Close())
	answers := make(chan answer, 64)
	l.answers = answers
	go func() {
		defer close(answers)
		defer out.Close()
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var a answer
			if json.Unmarshal(line, &a) == nil {
				answers <- a
			}
		}
	}()
}

// tell sends a command and waits for the answer; ok is false if the agent died.
func (l *lab) tell(c command) (a answer, ok bool) {
	l.t.Helper()
	line, err := json.Marshal(c)
	require.NoError(l.t, err)
	if _, err := l.in.Write(append(line, '\n')); err != nil {
		return a, false
	}
	select {
	case a, ok = <-l.answers:
	case <-time.After(testutil.Patience(time.Minute)):
		l.t.Fatalf("no answer to %+v; before: %s", c, l.did)
	}
	return a, ok
}

// must is tell for what nobody kills.
func (l *lab) must(c command) answer {
	l.t.Helper()
	a, ok := l.tell(c)
	require.True(l.t, ok, "the agent died of %+v", c)
	require.Empty(l.t, a.Err, "%+v, after %s", c, l.did)
	if c.ID != "" {
		l.boxes[c.ID] = []box{l.box(c.ID).after(c)}
	}
	if c.Op == "destroy" {
		delete(l.orphans, c.ID)
	}
	return a
}

// box is the sandbox as it is.
func (l *lab) box(id string) box {
	if may := l.boxes[id]; len(may) > 0 {
		return may[0]
	}
	return box{}
}

// end kills the agent.
func (l *lab) end() {
	l.tracer.kill()
	<-l.tracer.over
	_ = l.in.Close()
	l.tracer = nil
	l.kills++
}

// try does c and kills the agent in front of the n-th call. It reports false if
// there were fewer.
func (l *lab) try(c command, n int) bool {
	l.t.Helper()
	l.tracer.arm(n)
	a, answered := l.tell(c)
	calls, killed, last := l.tracer.disarm()
	l.did = fmt.Sprintf("%+v cut off in front of %s", c, last)
	if !killed {
		l.did = fmt.Sprintf("%+v and its %d calls", c, calls)
	}
	if answered {
		require.Empty(l.t, a.Err, l.did)
	}
	switch {
	case c.ID == "":
	case answered:
		l.boxes[c.ID] = []box{l.box(c.ID).after(c)}
	default:
		l.boxes[c.ID] = []box{l.box(c.ID), l.box(c.ID).after(c)}
	}
	l.end()
	return killed
}

// recover starts the next agent and compares what it says with what is true, and
// with what may be. It kills the first of them while it recovers if again is not
// 0, in front of that call.
func (l *lab) recover(again int) {
	l.t.Helper()
	l.start()
	if again > 0 {
		before := l.did
		l.try(command{Op: "open"}, again)
		l.did = before + ", then " + l.did
		l.start()
	}
	open := l.must(command{Op: "open"})
	said, is := l.settled()
	l.judge(said, is)
	if l.t.Failed() {
		l.t.Fatalf("after %s; recovered: %q", l.did, open.Recovered)
	}
}

// settled is what the agent says and what is true, once the kernel has done what it
// was asked to do: a process without processor time takes a while to freeze.
func (l *lab) settled() ([]found, *truth.World) {
	l.t.Helper()
	look := func() *truth.World {
		is, err := truth.Look(l.place.Parent, l.place.records(), l.mark)
		require.NoError(l.t, err)
		return is
	}
	for deadline := time.Now().Add(testutil.Patience(20 * time.Second)); ; {
		busy := false
		for _, g := range look().Groups {
			busy = busy || g.Freezing
		}
		if !busy {
			// Only now: what it said before would have been true then. And how a
			// process ended is known once its new parent has waited for it.
			said := l.must(command{Op: "report"}).Sandboxes
			ending := func(s found) bool { return s.Status.State == "running" && s.Status.PIDs == 0 }
			if !slices.ContainsFunc(said, ending) {
				is := look()
				// A child on its way is the supervisor's by its name. It ends by itself
				// where nobody has it.
				if len(is.Processes[supervisorName]) <= 1 {
					return said, is
				}
			}
		}
		require.True(l.t, time.Now().Before(deadline), "freezing or ending, after %s", l.did)
		time.Sleep(5 * time.Millisecond)
	}
}

// judge compares.
func (l *lab) judge(said []found, is *truth.World) {
	t := l.t
	t.Helper()
	var names []string
	links := 0
	for _, s := range said {
		id := s.Status.ID
		names = append(names, id)
		g := is.Groups[id]
		if !assert.NotNil(t, g, "%s: has no group", id) {
			continue
		}
		l.trees = max(l.trees, len(g.Trees))
		assert.Len(t, g.Trees, l.trees, "%s: is in %q only", id, g.Trees)
		assert.Empty(t, g.Below, id)
		b := box{exists: true, started: s.Status.State != "created", running: len(g.PIDs) > 0, frozen: g.Frozen, network: len(s.Links) > 0}
		links += len(s.Links)
		assert.Equal(t, is.Processes[id], g.PIDs, "%s: its processes, and those in its group", id)
		assert.Equal(t, b.running, string(s.Status.State) == "running", "%s: is %s", id, s.Status.State)
		assert.Equal(t, b.frozen, s.Status.Frozen, "%s: frozen", id)
		assert.Equal(t, len(g.PIDs), s.Status.PIDs, id)
		if exit := s.Status.Exit; exit != nil && exit.Known {
			assert.Equal(t, int(syscall.SIGKILL), exit.Signal, "%s: its end is invented: %v", id, exit)
		} else if exit != nil && l.place.Supervisor != nil {
			assert.True(t, l.orphans[id], "%s: its end is lost", id)
		}
		if b.running {
			assert.Contains(t, g.PIDs, s.Status.PID, id)
			b.execs = len(g.PIDs) - 1
			if l.place.Supervisor != nil && !l.orphans[id] {
				assert.Equal(t, b.execs, s.Execs, "%s: further processes of nobody", id)
			}
		}
		if b.network {
			b.shape = l.shapeOf(s, b.running)
		}
		assert.Empty(t, s.Status.Drift, "%s: limits are not those acknowledged", id)
		if l.place.OOMGroup {
			assert.Equal(t, b.started, g.Knobs["memory.oom.group"] == "1", "%s: memory.oom.group is %q", id, g.Knobs["memory.oom.group"])
		}
		b.n = numberOf(t, id, g.Knobs)
		if b.n > 0 {
			assert.Equal(t, limits(b.n).PIDs, s.Resources.PIDs, id)
			assert.Equal(t, limits(b.n).Memory.Max, s.Resources.Memory.Max, id)
		}
		b.claimed = weighty(g.Knobs)
		assert.Equal(t, b.claimed, len(s.Status.Claims) > 0, "%s: %v with %v", id, s.Status.Claims, g.Knobs)
		if assert.Contains(t, l.boxes[id], b, "%s: what may be, and what is", id) {
			l.boxes[id] = []box{b}
		}
	}
	for id, may := range l.boxes {
		if slices.Contains(names, id) {
			continue
		}
		assert.Contains(t, may, box{}, "%s: is lost", id)
		delete(l.boxes, id)
	}
	for id := range is.Groups {
		if strings.HasPrefix(id, "_") {
			continue // the host's own, of a class; no id begins so
		}
		assert.Contains(t, names, id, "a group of nobody")
	}
	for id, pids := range is.Processes {
		switch id {
		case l.mark:
		case supervisorName:
			assert.LessOrEqual(t, len(pids), 1, "supervisors: %v", pids)
		default:
			assert.Contains(t, names, id, "processes of nobody: %v", pids)
		}
	}
	var records []string
	for _, r := range is.Records {
		records = append(records, strings.TrimSuffix(r, ".state"))
	}
	assert.ElementsMatch(t, names, records, "records")
	var logged []string
	for _, s := range said {
		if s.Log != "" {
			logged = append(logged, s.Log)
		}
	}
	entries, err := os.ReadDir(filepath.Join(l.place.Root, "logs"))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	var logs []string
	for _, e := range entries {
		logs = append(logs, e.Name())
	}
	assert.ElementsMatch(t, logged, logs, "logs")
	for _, id := range logged {
		l.judgeLines(id)
	}
	l.judgeNetwork(links)
}

// judgeLines sees that every line that the workload had written comes into the log,
// once and in order.
func (l *lab) judgeLines(id string) {
	l.t.Helper()
	dir := filepath.Join(l.place.Root, "logs", id)
	until := -1
	for deadline := time.Now().Add(testutil.Patience(20 * time.Second)); ; time.Sleep(2 * time.Millisecond) {
		kept, written, err := truth.Lines(dir)
		if until < 0 && err == nil {
			until = written
		}
		if err == nil && kept >= until {
			l.lines += kept
			return
		}
		// A file may just be written, or packed.
		if !assert.True(l.t, time.Now().Before(deadline), "log of %s: %d lines of %d: %v", id, kept, until, err) {
			return
		}
	}
}

// shapeOf is the n of the limits of a sandbox's network, which has to be the same
// in both directions, and what the library says.
func (l *lab) shapeOf(s found, running bool) int {
	l.t.Helper()
	id := s.Status.ID
	machine, err := truth.Rates(l.place.Machine)
	require.NoError(l.t, err)
	in := machine[s.Links[0].Machine]
	n := 0
	if in != 0 {
		n = int(in-ingress(1))/1e6 + 1
	}
	assert.Equal(l.t, ingress(n), in, "%s: no limit of ours", id)
	want := rates(n)
	if n == 0 {
		want.Ingress = netns.Limit{}
	}
	assert.Equal(l.t, want, s.Network.Interfaces[0].Bandwidth, "%s: limits of its network as it says", id)
	if running { // by whose namespace it is found
		inside, err := truth.Rates(fmt.Sprintf("/proc/%d/ns/net", s.Status.PID))
		require.NoError(l.t, err)
		assert.Equal(l.t, egress(n), inside[s.Links[0].Name], "%s: limits of its network are a mixture", id)
	}
	return n
}

// judgeNetwork counts links, pins and leases.
func (l *lab) judgeNetwork(links int) {
	t := l.t
	t.Helper()
	machine, err := namespaces.OpenPath(l.place.Machine)
	require.NoError(t, err)
	defer machine.Close()
	var there []string
	require.NoError(t, namespaces.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(text)) {
			if name, _, ok := strings.Cut(line, ":"); ok {
				there = append(there, strings.TrimSpace(name))
			}
		}
		return err
	}, machine))
	assert.Len(t, there, links+1, "links besides lo: %q", there)
	pins, err := os.ReadDir(l.place.Pins)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	assert.Len(t, pins, links, "pins")
}

// numberOf is the n of limits, which has to be the same in each of them.
func numberOf(t testing.TB, id string, knobs map[string]string) int {
	t.Helper()
	var all []int
	for name, parse := range map[string]func(string) (int, bool){
		"pids.max": func(s string) (int, bool) {
			n, err := strconv.Atoi(s)
			return n - 100, err == nil && n < 1000
		},
		"memory.max": func(s string) (int, bool) {
			n, err := strconv.Atoi(s)
			return n>>20 - 64, err == nil && n < 1<<40
		},
		"cpu.max": func(s string) (int, bool) {
			q, p, _ := strings.Cut(s, " ")
			quota, err := strconv.Atoi(q)
			period, perr := strconv.Atoi(p)
			if err != nil || perr != nil || quota < 0 {
				return 0, false
			}
			return quota*100/period - 50, true
		},
	} {
		if text, ok := knobs[name]; ok {
			n, set := parse(text)
			if !set {
				n = 0
			}
			all = append(all, n)
		}
	}
	require.NotEmpty(t, all, "no limits of %s", id)
	slices.Sort(all)
	assert.Len(t, slices.Compact(all), 1, "%s: limits are a mixture: %v", id, knobs)
	return all[0]
}

// weighty reports whether the group's weight is another than the kernel's default.
func weighty(knobs map[string]string) bool {
	weight, ok := knobs["cpu.weight"]
	return ok && weight != "100" || !ok && knobs["cpu.shares"] != "1024"
}

// finish destroys everything, and looks for what is left.
func (l *lab) finish() {
	l.t.Helper()
	for _, id := range slices.Sorted(keys(l.boxes)) {
		l.must(command{Op: "destroy", ID: id})
	}
	l.must(command{Op: "remove"})
	l.end()
	is, err := truth.Look(l.place.Parent, l.place.records(), l.mark)
	require.NoError(l.t, err)
	delete(is.Processes, l.mark)
	assert.Equal(l.t, &truth.World{Groups: map[string]*truth.Group{}, Processes: map[string][]int{}}, is)
	assert.NoDirExists(l.t, l.place.Root)
	l.judgeNetwork(0)
}

func keys(m map[string][]box) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
