// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }
func (*recorder) FailNow()            { runtime.Goexit() }

// failures are what an experiment fails with, and its report if there is one.
func failures(t *testing.T, e isolationtest.Experiment) (failed string, report isolationtest.Report) {
	t.Helper()
	r := &recorder{TB: t}
	over := make(chan struct{})
	go func() {
		defer close(over)
		report = isolationtest.Run(r, e)
	}()
	<-over
	return strings.Join(r.failed, "\n"), report
}

// feel is the first argument of a victim that says 1 ms, and 5 ms while somebody has its
// file locked, as hold does. So what an experiment sees is no matter of the machine.
const (
	feel = "feel-a-neighbour"
	hold = "hold-a-file"
)

func locking(does, path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 1
	}
	if does == hold {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return 2
		}
	}
	for range time.Tick(2 * ms) {
		if does == hold {
			continue
		}
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if _, err := fmt.Println(map[bool]time.Duration{true: ms, false: 5 * ms}[err == nil]); err != nil {
			return 3
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
			return 4
		}
	}
	return 0
}

// felt is an experiment with such a victim, and with an antagonist that does as well.
func felt(t *testing.T, does string) isolationtest.Experiment {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	parse := func(line string) (time.Duration, bool) {
		d, err := time.ParseDuration(line)
		return d, err == nil
	}
	e := isolationtest.Experiment{
		Victim:      isolationtest.Command(parse, exe, feel, path),
		Antagonists: []isolation.Spec{{Process: isolation.Process{Args: []string{exe, does, path}}}},
		Expect:      []isolationtest.Expectation{isolationtest.QuantileWithin(0.5, 2), isolationtest.RateWithin(0.001)},
		Phase:       500 * ms, Settle: 10 * ms,
	}
	if testutil.Emulated() {
		e.Phase = time.Second
	}
	return e
}

// TestRunSeesTheNeighbour: what the antagonist does to the victim is seen, and fails what
// was expected not to be; the rest holds.
func TestRunSeesTheNeighbour(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	failed, r := failures(t, felt(t, hold))
	assert.Contains(t, failed, "p50 within 2x: does not hold")
	assert.NotContains(t, failed, "rate")
	require.Len(t, r.Verdicts, 2)
	assert.True(t, r.Verdicts[1].Holds())
	assert.GreaterOrEqual(t, len(r.Rounds), 3)
}

// TestRunSeesNothing: an antagonist that does nothing to the victim is not felt.
func TestRunSeesNothing(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	r := isolationtest.Run(t, felt(t, feel))
	assert.Len(t, r.Rounds, 3)
	assert.Zero(t, r.Ended)
}

// TestPulse: it says how long each turn took, in the terms of its own Latency.
func TestPulse(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	victim := isolationtest.Pulse(5*ms, ms)
	box, err := isolationtest.OwnHost(t).Create(t.Context(), victim.Spec)
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, errors.Join(box.Start(t.Context(), nil, w), w.Close()))
	lines := bufio.NewScanner(r)
	for range 20 {
		require.True(t, lines.Scan())
		d, ok := victim.Latency(lines.Text())
		require.True(t, ok, lines.Text())
		require.Positive(t, d)
	}
	_, ok := victim.Latency("no number")
	assert.False(t, ok)
	require.NoError(t, box.Destroy(t.Context()))
}

// TestHogs: each antagonist of this package uses the CPU, goes on, and leaves nothing.
func TestHogs(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	h := isolationtest.OwnHost(t)
	for _, hog := range []isolation.Spec{
		isolationtest.CPUHog(2), isolationtest.MemoryHog(8 << 20), isolationtest.CacheHog(4 << 20),
		isolationtest.DiskHog(dir, 2<<20), isolationtest.ForkHog(2),
	} {
		box, err := h.Create(t.Context(), hog)
		require.NoError(t, err)
		require.NoError(t, box.Start(t.Context()))
		var st cgroups.Stats
		require.Eventually(t, func() bool {
			require.NoError(t, box.Stat(&st))
			used, _ := st.CPU.Usage.Value()
			return used > 50*ms
		}, testutil.Patience(20*time.Second), 10*time.Millisecond, hog.ID)
		now, err := box.Check(t.Context())
		require.NoError(t, err)
		assert.Equal(t, isolation.StateRunning, now.State, hog.ID)
		require.NoError(t, box.Destroy(t.Context()))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestRunCountsKills: an antagonist that is killed for its memory is counted.
func TestRunCountsKills(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	e := felt(t, feel)
	e.Antagonists = []isolation.Spec{isolationtest.MemoryHog(64 << 20)}
	e.Antagonists[0].Resources.Memory = cgroups.Memory{Max: cgroups.Bytes(16 << 20)}
	if hasSwap(t) {
		e.Antagonists[0].Resources.Memory.Swap = cgroups.Bytes(0)
	}
	r := isolationtest.Run(t, e)
	assert.Positive(t, r.Ended)
}

func hasSwap(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/swaps")
	require.NoError(t, err)
	return strings.Count(string(b), "\n") > 1
}

// TestRunFails: what cannot be done is said, with what the program said of it, and
// nothing stays.
func TestRunFails(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	sh := func(script string) isolation.Process {
		return isolation.Process{Args: []string{"/bin/sh", "-c", script}}
	}
	always := func(string) (time.Duration, bool) { return ms, true }
	const ticks = "while :; do echo x; sleep 0.02; done"
	for want, spoil := range map[string]func(*isolationtest.Experiment){
		"there are no antagonists": func(e *isolationtest.Experiment) { e.Antagonists = nil },
		"victim: it ended too soon: exit status 3; it wrote: no luck": func(e *isolationtest.Experiment) {
			e.Victim.Spec.Process = sh("echo no luck >&2; exit 3")
		},
		"victim: it ended too soon: exit status 4": func(e *isolationtest.Experiment) {
			e.Victim.Spec.Process = sh("echo x; exit 4")
		},
		"/no/program": func(e *isolationtest.Experiment) { e.Victim.Spec.Process.Args = []string{"/no/program"} },
		"the victim answered no request that was due within": func(e *isolationtest.Experiment) {
			e.Victim.Spec.Process = sh("echo x; sleep 100")
		},
		"token too long": func(e *isolationtest.Experiment) {
			e.Victim.Spec.Process = sh("echo x; yes | tr -d '\\n'")
		},
		"bad: it ended too soon: exit status 5; it wrote: bad luck": func(e *isolationtest.Experiment) {
			e.Antagonists[0].Process = sh("echo bad luck >&2; exit 5")
		},
		"good: it ended too soon: exit status 0": func(e *isolationtest.Experiment) {
			e.Antagonists = append(e.Antagonists, isolation.Spec{ID: "good", Process: sh("exit 0")})
		},
		"take 9223372036854775807 bytes": func(e *isolationtest.Experiment) {
			e.Antagonists[0] = isolationtest.MemoryHog(1<<63 - 1)
		},
	} {
		t.Run(strings.ReplaceAll(want, "/", " "), func(t *testing.T) {
			testutil.CheckLeaks(t)
			e := isolationtest.Experiment{
				Victim:      isolationtest.Victim{Spec: isolation.Spec{Process: sh(ticks)}, Latency: always},
				Antagonists: []isolation.Spec{{ID: "bad", Process: sh("sleep 100")}},
				Expect:      []isolationtest.Expectation{isolationtest.P99Within(2)},
				Phase:       500 * ms, Settle: 10 * ms, Rounds: 3,
			}
			if testutil.Emulated() {
				e.Phase = time.Second
			}
			spoil(&e)
			failed, _ := failures(t, e)
			assert.Contains(t, strings.Join(strings.Fields(failed), " "), want)
		})
	}
}

// TestRunBesideController: an experiment and a controller get on with each other on one
// host.
func TestRunBesideController(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	testutil.CheckLeaks(t)
	h := isolationtest.OwnHost(t)
	ctl, err := elastic.Start(t.Context(), h, elastic.Config{Policies: elastic.Defaults()})
	require.NoError(t, err)
	e := felt(t, feel)
	e.Host, e.Antagonists = h, []isolation.Spec{isolationtest.CPUHog(2 * runtime.NumCPU())}
	isolationtest.Run(t, e)
	require.NoError(t, ctl.Close())
}

// TestRunOnAHost: on a host of the caller's own nothing is touched but what the
// experiment made.
func TestRunOnAHost(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.EachKernel)
	testutil.CheckLeaks(t)
	h := isolationtest.OwnHost(t)
	mine, err := h.Create(t.Context(), isolation.Spec{ID: "cpu-hog", Process: isolation.Process{Args: []string{"/bin/sleep", "100"}}})
	require.NoError(t, err)
	require.NoError(t, mine.Start(t.Context()))
	e := felt(t, feel)
	e.Host, e.Antagonists = h, []isolation.Spec{isolationtest.CPUHog(1)}
	failed, _ := failures(t, e)
	assert.Contains(t, failed, `there is a sandbox "cpu-hog" already`)
	e.Antagonists[0].ID = "another"
	isolationtest.Run(t, e)
	left := 0
	for box := range h.Sandboxes(nil) {
		assert.Equal(t, "cpu-hog", box.ID())
		left++
	}
	assert.Equal(t, 1, left)
	st, err := mine.Check(t.Context())
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	require.NoError(t, mine.Destroy(t.Context()))
}
