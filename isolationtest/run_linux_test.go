// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// busy is a victim that needs half of a CPU, beside one with as many threads as
// there are CPUs and times its weight.
func busy(weight uint16) isolationtest.Experiment {
	e := isolationtest.Experiment{
		Victim:      isolationtest.Pulse(10*ms, 5*ms),
		Antagonists: []isolation.Spec{isolationtest.CPUHog(2 * runtime.NumCPU())},
		Phase:       300 * ms, Settle: 100 * ms, Rounds: 7,
	}
	e.Victim.Spec.Class, e.Antagonists[0].Class = elastic.Standard, elastic.Standard
	e.Victim.Spec.Resources.CPU.Weight = cgroups.WeightOf(100)
	e.Antagonists[0].Resources.CPU.Weight = cgroups.WeightOf(weight)
	return e
}

// TestRunSeesTheNeighbour: a hog with a hundred times the victim's weight is seen.
func TestRunSeesTheNeighbour(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	testutil.CheckLeaks(t)
	e := busy(10000)
	e.Expect = []isolationtest.Expectation{isolationtest.QuantileWithin(0.5, 2), isolationtest.AntagonistsUse(0.1)}
	failed, r := failures(t, e)
	assert.Contains(t, failed, "p50 within 2x: does not hold")
	assert.NotContains(t, failed, "antagonists")
	require.Len(t, r.Verdicts, 2)
	assert.True(t, r.Verdicts[1].Holds())
	assert.GreaterOrEqual(t, len(r.Rounds), 3)
}

// TestRunSeesProtection: one with a hundredth of it is not felt, nor is one that hardly
// runs.
func TestRunSeesProtection(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	testutil.CheckLeaks(t)
	e := busy(1)
	e.Victim.Spec.Resources.CPU.Weight = cgroups.WeightOf(10000)
	e.Antagonists[0].Resources.CPU.Max = cgroups.CPUs(0.1)
	e.Expect = []isolationtest.Expectation{isolationtest.QuantileWithin(0.5, 3)}
	r := isolationtest.Run(t, e)
	require.Len(t, r.Verdicts, 1)
	assert.Zero(t, r.Ended)
}

// hogs are all antagonists of this package.
func hogs(dir string) (all []isolation.Spec) {
	for _, hog := range []isolation.Spec{
		isolationtest.CPUHog(1), isolationtest.MemoryHog(8 << 20), isolationtest.CacheHog(4 << 20),
		isolationtest.DiskHog(dir, 2<<20), isolationtest.ForkHog(2),
	} {
		hog.Class, hog.Resources.CPU.Max = elastic.Standard, cgroups.CPUs(0.2) // so that each has its time
		all = append(all, hog)
	}
	return all
}

// TestRunHogs: the antagonists do their work beside each other, and leave nothing.
func TestRunHogs(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	e := isolationtest.Experiment{
		Victim: isolationtest.Pulse(20*ms, ms), Antagonists: hogs(dir),
		Expect: []isolationtest.Expectation{isolationtest.AntagonistsUse(0.1)},
		Phase:  300 * ms, Settle: 10 * ms, Rounds: 3,
	}
	if testutil.Emulated() {
		e.Phase = 1500 * ms
	}
	r := isolationtest.Run(t, e)
	assert.Equal(t, "cpu-hog, memory-hog, cache-hog, disk-hog, fork-hog", r.Antagonists)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestRunEachHog: none of them only waits.
func TestRunEachHog(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	testutil.CheckLeaks(t)
	for _, hog := range hogs(t.TempDir()) {
		isolationtest.Run(t, isolationtest.Experiment{
			Victim: isolationtest.Pulse(20*ms, ms), Antagonists: []isolation.Spec{hog},
			Expect: []isolationtest.Expectation{isolationtest.AntagonistsUse(0.05)},
			Phase:  100 * ms, Settle: 10 * ms,
		})
	}
}

// TestRunCountsKills: an antagonist that is killed for its memory is counted.
func TestRunCountsKills(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	e := isolationtest.Experiment{
		Victim:      isolationtest.Pulse(20*ms, ms),
		Antagonists: []isolation.Spec{isolationtest.MemoryHog(64 << 20)},
		Expect:      []isolationtest.Expectation{isolationtest.RateWithin(0.01)},
		Phase:       500 * ms, Settle: 10 * ms, Rounds: 5,
	}
	if testutil.Emulated() {
		e.Phase = 1500 * ms
	}
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
	testutil.Require(t, testutil.Root)
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
		"answered no request that was due within 100ms alone": func(e *isolationtest.Experiment) {
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
				Phase:       100 * ms, Settle: 10 * ms, Rounds: 3,
			}
			if testutil.Emulated() && !strings.Contains(want, "100ms") {
				e.Phase = time.Second
			}
			spoil(&e)
			failed, _ := failures(t, e)
			assert.Contains(t, strings.Join(strings.Fields(failed), " "), want)
		})
	}
}

// TestRunBesideController: under a controller, threads that compute are not felt, and
// work all the same.
func TestRunBesideController(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Real)
	testutil.CheckLeaks(t)
	h, err := isolation.Open(t.Context(), isolation.Config{Root: filepath.Join(t.TempDir(), "state"), Parent: testutil.CgroupName(t)})
	require.NoError(t, err)
	ctl, err := elastic.Start(t.Context(), h, elastic.Config{Policies: elastic.Defaults()})
	require.NoError(t, err)
	isolationtest.Run(t, isolationtest.Experiment{
		Host:        h,
		Victim:      isolationtest.Pulse(10*ms, 2*ms),
		Antagonists: []isolation.Spec{isolationtest.CPUHog(2 * runtime.NumCPU())},
		Expect:      []isolationtest.Expectation{isolationtest.QuantileWithin(0.5, 3), isolationtest.AntagonistsUse(0.1)},
		Phase:       time.Second, Settle: 100 * ms,
	})
	require.NoError(t, ctl.Close())
	require.NoError(t, h.Remove(t.Context()))
	require.NoError(t, h.Close())
}

// TestRunOnAHost: on a host of the caller's own nothing is touched but what the
// experiment made.
func TestRunOnAHost(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	h, err := isolation.Open(t.Context(), isolation.Config{Root: filepath.Join(t.TempDir(), "state"), Parent: testutil.CgroupName(t)})
	require.NoError(t, err)
	mine, err := h.Create(t.Context(), isolation.Spec{ID: "cpu-hog", Process: isolation.Process{Args: []string{"/bin/sleep", "100"}}})
	require.NoError(t, err)
	require.NoError(t, mine.Start(t.Context()))
	e := isolationtest.Experiment{
		Host:        h,
		Victim:      isolationtest.Pulse(20*ms, ms),
		Antagonists: []isolation.Spec{isolationtest.CPUHog(1)},
		Expect:      []isolationtest.Expectation{isolationtest.RateWithin(0.01)},
		Phase:       100 * ms, Settle: 10 * ms,
	}
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
	require.NoError(t, h.Remove(t.Context()))
	require.NoError(t, h.Close())
}
