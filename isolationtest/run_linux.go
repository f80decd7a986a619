// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Run measures the victim alone and beside the antagonists in turns, and fails the test
// for each expectation that does not hold.
//
// A round is one measurement beside the antagonists, compared with those alone just
// before and just after, so that a machine that is slower for a while is so in both. One
// round proves nothing where others use the machine, too: an expectation counts as held,
// or not, once it did so in three rounds more than the contrary. If that has not come
// after Experiment.Rounds, it cannot be told on this machine, which fails the test as well
// and is said.
//
// An experiment that makes no sense or cannot be done ends the test: the victim ends or
// says nothing while it is alone, a program cannot be started, an antagonist ends by
// itself. One that is ended by a signal, as by a controller, is counted. The
// report is in the test's log.
//
// The test binary has to call [Workload] for the antagonists and victims of this package.
func Run(t testing.TB, e Experiment) Report {
	t.Helper()
	e, err := e.complete()
	require.NoError(t, err)
	if e.Host == nil {
		e.Host = ownHost(t)
	}
	r, err := measure(t, e)
	if len(r.Rounds) > 0 {
		t.Logf("\n%s", r)
	}
	require.NoError(t, err)
	for _, v := range r.Verdicts {
		if !v.Holds() {
			t.Error(v)
		}
	}
	return r
}

// ownHost is a host for one experiment.
func ownHost(t testing.TB) *isolation.Host {
	t.Helper()
	h, err := isolation.Open(t.Context(), isolation.Config{
		Root: filepath.Join(t.TempDir(), "state"), Parent: testutil.CgroupName(t),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, h.Remove(context.Background()))
		assert.NoError(t, h.Close())
	})
	return h
}

// patience bounds what takes no time on a machine that works.
const patience = 30 * time.Second

// trial is an experiment under way.
type trial struct {
	Experiment
	victim *guest
	ended  int // antagonists, by a signal

	mu      sync.Mutex
	samples []sample
	first   chan struct{} // closed by the first sample
	broken  error         // why no more can be read
}

// measure makes the rounds, and leaves nothing of them.
func measure(t testing.TB, e Experiment) (r Report, err error) {
	t.Helper()
	ctx := t.Context()
	r.Antagonists = names(e.Antagonists)
	for _, x := range e.Expect {
		r.Verdicts = append(r.Verdicts, Verdict{Expectation: x.Name})
	}
	tr := &trial{Experiment: e, first: make(chan struct{})}
	stop, err := tr.begin(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	before, err := tr.alone(ctx)
	for err == nil && len(r.Rounds) < e.Rounds && !r.decided() {
		var round Round
		if round, before, err = tr.round(ctx, before); err != nil {
			break
		}
		r.Rounds = append(r.Rounds, round)
		for i, x := range e.Expect {
			r.Verdicts[i].add(x, round)
		}
	}
	r.Ended = tr.ended
	return r, err
}

// begin starts the victim and waits until it answers. stop destroys it.
func (tr *trial) begin(ctx context.Context) (stop func() error, err error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	tr.victim, err = enter(ctx, tr.Host, tr.Victim.Spec, in)
	err = errors.Join(err, in.Close())
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		tr.read(out)
	}()
	stop = func() error {
		err := errors.Join(tr.victim.destroy(), out.Close())
		<-read
		return err
	}
	limit := time.NewTimer(testutil.Patience(patience))
	defer limit.Stop()
	select {
	case <-tr.first:
		return stop, nil
	case <-tr.victim.ended:
		err = tr.victim.end()
	case <-limit.C:
		err = errors.Join(fmt.Errorf("the victim wrote no line with a latency within %v", testutil.Patience(patience)), tr.fault())
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, errors.Join(err, stop())
}

// read takes in what the victim writes.
func (tr *trial) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		latency, ok := tr.Victim.Latency(lines.Text())
		if !ok {
			continue
		}
		tr.mu.Lock()
		tr.samples = append(tr.samples, sample{at: time.Now(), latency: latency})
		if len(tr.samples) == 1 {
			close(tr.first)
		}
		tr.mu.Unlock()
	}
	if err := lines.Err(); err != nil {
		tr.mu.Lock()
		tr.broken = fmt.Errorf("read what the victim writes: %w", err)
		tr.mu.Unlock()
		_, _ = io.Copy(io.Discard, out) // it is not to wait for a reader
	}
}

func (tr *trial) fault() error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.broken
}

// wait lets a time pass, in which the victim goes on.
func (tr *trial) wait(ctx context.Context, d time.Duration) (span, error) {
	s := span{from: time.Now()}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		s.to = time.Now()
		return s, tr.fault()
	case <-tr.victim.ended:
		return s, tr.victim.end()
	case <-ctx.Done():
		return s, context.Cause(ctx)
	}
}

// alone is a phase without antagonists.
func (tr *trial) alone(ctx context.Context) (span, error) {
	s, err := tr.wait(ctx, tr.Phase)
	if err == nil && len(tr.figures(s).Latencies) == 0 {
		err = fmt.Errorf("the victim answered no request that was due within %v alone; its last answer was %v late", tr.Phase, tr.last())
	}
	return s, err
}

func (tr *trial) figures(spans ...span) Figures {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return figures(tr.samples, spans...)
}

// round is a phase beside the antagonists and one alone.
func (tr *trial) round(ctx context.Context, before span) (r Round, after span, err error) {
	beside, cpus, err := tr.beside(ctx)
	if err != nil {
		return r, after, err
	}
	if err = tr.settle(ctx, before); err != nil {
		return r, after, err
	}
	if after, err = tr.alone(ctx); err != nil {
		return r, after, err
	}
	r = Round{Alone: tr.figures(before, after), Beside: tr.figures(beside)}
	r.Beside.Antagonists = cpus
	tr.forget(after.from)
	return r, after, nil
}

// mostSettling is how many times Experiment.Settle a victim gets that has much to catch up
// with.
const mostSettling = 10

// settle waits until the victim is again as it was before.
func (tr *trial) settle(ctx context.Context, before span) error {
	usual := tr.figures(before).Quantile(0.99)
	for range mostSettling {
		if _, err := tr.wait(ctx, tr.Settle); err != nil {
			return err
		}
		if tr.last().Seconds() <= usual {
			break
		}
	}
	return nil
}

// last is the latency that was read last.
func (tr *trial) last() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.samples[len(tr.samples)-1].latency
}

// forget drops the samples of before a moment.
func (tr *trial) forget(before time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	kept := tr.samples[:0]
	for _, s := range tr.samples {
		if !s.due().Before(before) {
			kept = append(kept, s)
		}
	}
	tr.samples = kept
}

// beside is a phase with antagonists, who are gone when it returns.
func (tr *trial) beside(ctx context.Context) (s span, cpus float64, err error) {
	var guests []*guest
	defer func() {
		for _, g := range guests {
			err = errors.Join(err, g.destroy())
		}
	}()
	from := time.Now()
	for _, spec := range tr.Antagonists {
		g, err := enter(ctx, tr.Host, spec, nil)
		if err != nil {
			return s, 0, err
		}
		guests = append(guests, g)
	}
	if s, err = tr.wait(ctx, max(0, tr.Phase-time.Since(from))); err != nil {
		return s, 0, err
	}
	s.from = from
	for _, g := range guests {
		used, err := g.used()
		if err != nil {
			return s, 0, err
		}
		cpus += used / s.to.Sub(s.from).Seconds()
		select {
		case <-g.ended:
			if g.err != nil || g.exit.Signal == 0 {
				return s, 0, g.end()
			}
			tr.ended++
		default:
		}
	}
	return s, cpus, nil
}
