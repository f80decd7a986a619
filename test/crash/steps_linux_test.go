// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kills is how many agents die at least; 0 without CAISSON_CRASH_KILLS, when only
// some do.
func kills() int {
	n, _ := strconv.Atoi(os.Getenv("CAISSON_CRASH_KILLS"))
	return n
}

// operations are what agents are killed in, with what has to be done before.
var operations = []struct {
	before []command
	op     command
}{
	{nil, command{"create", "a", 3}},
	{[]command{{"create", "a", 3}}, command{"start", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"update-all", "a", 9}},
	{[]command{{"create", "a", 9}, {"start", "a", 0}}, command{"update", "a", 3}},
	{[]command{{"create", "a", 0}, {"start", "a", 0}}, command{"update", "a", 3}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"claim", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"claim", "a", 0}}, command{"unclaim", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"freeze", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"freeze", "a", 0}}, command{"thaw", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"freeze", "a", 0}}, command{"destroy", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"destroy", "a", 0}},
	{[]command{{"create", "a", 3}}, command{"destroy", "a", 0}},
	{nil, command{"create-net", "n", 3}},
	{[]command{{"create-net", "n", 3}}, command{"start", "n", 0}},
	{[]command{{"create-net", "n", 3}, {"start", "n", 0}}, command{"destroy", "n", 0}},
	{[]command{{"create-net", "n", 3}, {"start", "n", 0}}, command{"shape", "n", 5}},
	{[]command{{"create-net", "n", 3}, {"start", "n", 0}, {"shape", "n", 5}}, command{"shape", "n", 7}},
	{[]command{{"create-user", "u", 3}}, command{"start", "u", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"exec", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"exec", "a", 0}}, command{"kill", "a", 0}},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"exec", "a", 0}}, command{"destroy", "a", 0}},
}

// TestKillAtEverySystemCall kills in front of each call that could change
// something, or of some of them: of every operation, and of Open after it (faults 1 to
// 4).
func TestKillAtEverySystemCall(t *testing.T) {
	l := newLab(t)
	l.start()
	l.must(command{Op: "open"})
	l.must(command{"create", "other", 5}) // it is not to notice anything
	l.must(command{Op: "start", ID: "other"})
	stride, limit := 1, 1<<30
	switch {
	case testutil.Emulated():
		stride, limit = 37, 1
	case kills() == 0:
		stride, limit = 13, 2
	}
	for i, o := range operations {
		begun, died := time.Now(), 0
		for n := 1 + l.random.IntN(stride); ; n += stride {
			l.prepare(o.op.ID, o.before)
			if died == limit || !l.try(o.op, n) {
				break
			}
			died++
			again := 0
			if died%2 == 0 {
				again = 1 + l.random.IntN(30)
			}
			l.recover(again)
		}
		if l.tracer == nil {
			l.recover(0)
		}
		t.Logf("%2d %s after %v: %d kills, %.1fs", i, o.op.Op, o.before, died, time.Since(begun).Seconds())
	}
	l.finish()
	t.Logf("%d kills, %d lines of logs judged", l.kills, l.lines)
}

// underSupervisor are what is done with processes where they are a supervisor's, and
// whether that has a part in it.
var underSupervisor = []struct {
	before []command
	op     command
	asked  bool
}{
	{[]command{{"create", "a", 3}}, command{"start", "a", 0}, true},
	{[]command{{"create-user", "u", 3}}, command{"start", "u", 0}, true},
	{[]command{{"create", "a", 3}, {"start", "a", 0}}, command{"exec", "a", 0}, true},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"exec", "a", 0}}, command{"kill", "a", 0}, false},
	{[]command{{"create", "a", 3}, {"start", "a", 0}, {"exec", "a", 0}}, command{"destroy", "a", 0}, true},
}

// TestKillWithSupervisor kills agents that have a supervisor, and that itself, in front
// of each call that could change something, or of some of them (fault 1).
func TestKillWithSupervisor(t *testing.T) {
	l := newLab(t)
	l.supervised()
	l.start()
	l.must(command{Op: "open"})
	l.must(command{"create", "other", 5}) // it is not to notice anything
	l.must(command{Op: "start", ID: "other"})
	stride, limit := 2, 1<<30
	switch {
	case testutil.Emulated():
		stride, limit = 37, 1
	case kills() == 0:
		stride, limit = 11, 1
	}
	for i, o := range underSupervisor {
		begun, agents, supervisors := time.Now(), 0, 0
		for n := 1 + l.random.IntN(stride); agents < limit; n += stride {
			l.prepare(o.op.ID, o.before)
			if !l.try(o.op, n) {
				break
			}
			agents++
			l.recover(0)
			l.fresh(o.op.ID)
		}
		if l.tracer == nil {
			l.recover(0)
		}
		for n := 1 + l.random.IntN(stride); o.asked && supervisors < limit; n += stride {
			l.prepare(o.op.ID, o.before)
			if len(l.supervisors()) == 0 { // the last one was killed, and nobody has needed it since
				l.must(command{"create", "wakes", 3})
				l.must(command{Op: "start", ID: "wakes"})
				l.must(command{Op: "destroy", ID: "wakes"})
			}
			more := l.trySupervisor(o.op, n)
			if supervisors++; supervisors%2 == 0 {
				l.end()
				l.start()
				l.must(command{Op: "open"})
			}
			said, is := l.settled()
			l.judge(said, is)
			if t.Failed() {
				t.Fatalf("after %s", l.did)
			}
			if !more {
				break
			}
			l.fresh(o.op.ID)
		}
		t.Logf("%2d %s after %v: %d kills of agents, %d of supervisors, %.1fs", i, o.op.Op, o.before, agents, supervisors, time.Since(begun).Seconds())
	}
	l.finish()
	t.Logf("%d kills, %d lines of logs judged", l.kills, l.lines)
}

// fresh destroys a sandbox that was not started: a program that nobody took delivery of
// may have written to its log before it was ended, and the next one would again.
func (l *lab) fresh(id string) {
	l.t.Helper()
	if b := l.box(id); b.exists && !b.started {
		l.must(command{Op: "destroy", ID: id})
	}
}

// TestKillBeforeMaps kills an agent whose child waits for the maps of its user
// namespace: the next agent, which can open the host, ends that child, and the
// sandbox can be started (fault 1).
func TestKillBeforeMaps(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	files := []string{"/uid_map", "/gid_map"}
	if testutil.Emulated() {
		files = files[1:]
	}
	for _, file := range files {
		l := newLab(t)
		l.start()
		l.must(command{Op: "open"})
		l.must(command{"create-user", "u", 3})
		l.tracer.armAtFile(file)
		_, answered := l.tell(command{Op: "start", ID: "u"})
		_, killed, last := l.tracer.disarm()
		require.True(t, killed)
		require.False(t, answered)
		l.did = "start cut off in front of " + last
		l.end()
		l.recover(0)
		require.False(t, l.box("u").started, "nobody is there to go on")
		l.must(command{Op: "start", ID: "u"})
		l.finish()
	}
}

// prepare brings the sandbox to where the operation begins.
func (l *lab) prepare(id string, before []command) {
	l.t.Helper()
	want := box{}
	for _, c := range before {
		want = want.after(c)
	}
	if l.box(id) == want {
		return
	}
	if l.box(id).exists {
		l.must(command{Op: "destroy", ID: id})
	}
	for _, c := range before {
		l.must(c)
	}
}

// TestKillAtRandom kills agents that do many things at once.
func TestKillAtRandom(t *testing.T) {
	l := newLab(t)
	rounds := 12
	switch {
	case testutil.Emulated():
		rounds = 2
	case kills() > 0:
		rounds = max(1, kills()-650) // on top of those at each step, of agents and of supervisors
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l.random = rand.New(rand.NewPCG(seed, 0))
	l.start()
	l.must(command{Op: "open"})
	for i := range rounds {
		l.churn(i)
		again := 0
		if i%4 == 3 {
			again = 1 + l.random.IntN(60)
		}
		l.recover(again)
	}
	l.finish()
	t.Logf("%d kills, %d lines of logs judged", l.kills, l.lines)
}

// churn lets the agent do many things, and kills it after a while.
func (l *lab) churn(seed int) {
	l.t.Helper()
	go func() {
		timer := time.NewTimer(time.Duration(l.random.Int64N(int64(testutil.Patience(150 * time.Millisecond)))))
		defer timer.Stop()
		<-timer.C
		l.tracer.kill()
	}()
	_, err := l.in.Write([]byte(`{"Op":"churn","N":` + strconv.Itoa(seed) + "}\n"))
	require.NoError(l.t, err)
	l.did = "churn:"
	for a := range l.answers {
		id := a.Command.ID
		assert.Empty(l.t, a.Err, "%+v", a.Command)
		if a.Begun {
			l.did += " " + a.Command.Op + "(" + id
			l.boxes[id] = []box{l.box(id), l.box(id).after(a.Command)}
		} else {
			l.did += " " + id + ")"
			l.boxes[id] = l.boxes[id][1:]
		}
	}
	l.end()
}
