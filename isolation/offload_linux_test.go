// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// halves is a process that uses one half of its memory, again and again, and the
// other never. It says after each round how much CPU time it has used.
type halves struct {
	*isolation.Sandbox
	st cgroups.Stats

	mu     sync.Mutex
	rounds []round
}

type round struct{ at, cpu time.Duration }

const coldHalf = 24 << 20

func newHalves(t *testing.T, h *isolation.Host, id string, class elastic.Class) *halves {
	p := &halves{Sandbox: create(t, h, isolation.Spec{ID: id, Class: class, Process: program(t, "halves", strconv.Itoa(2*coldHalf>>20))})}
	out := bufio.NewReader(run(t, p.Sandbox))
	began := time.Now()
	read := func() error {
		line, err := out.ReadString('\n')
		if err != nil {
			return err
		}
		used, _, _ := strings.Cut(line, " ")
		cpu, err := strconv.ParseInt(used, 10, 64)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rounds = append(p.rounds, round{time.Since(began), time.Duration(cpu)})
		return err
	}
	require.NoError(t, read()) // it has all its memory
	done := make(chan struct{})
	go func() {
		defer close(done)
		for read() == nil {
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, p.Kill(deadline(t)))
		<-done
	})
	return p
}

func (p *halves) stat(t *testing.T) *cgroups.Stats {
	require.NoError(t, p.Stat(&p.st))
	return &p.st
}

// last is the round that ended last, and how many there were.
func (p *halves) last() (round, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rounds[len(p.rounds)-1], len(p.rounds)
}

// each is what a round takes, of time and of CPU time, for so many rounds of which
// each step is done ten times a second.
func (p *halves) each(n int, step func()) round {
	from, first := p.last()
	for {
		if to, now := p.last(); now >= first+n {
			rounds := time.Duration(now - first)
			return round{(to.at - from.at) / rounds, (to.cpu - from.cpu) / rounds}
		}
		step()
		time.Sleep(100 * time.Millisecond)
	}
}

// loss is by how much more than 1 the ratios, some twelve, are: the mean, and half of
// the interval that has the true one in 95 of 100 cases.
func loss(ratios []float64) (mean, within float64) {
	for _, r := range ratios {
		mean += (r - 1) / float64(len(ratios))
	}
	sum := 0.0
	for _, r := range ratios {
		sum += (r - 1 - mean) * (r - 1 - mean)
	}
	return mean, 2.2 * math.Sqrt(sum/float64(len(ratios)-1)/float64(len(ratios)))
}

// TestControllerOffloads has a controller find the half of a process's memory that
// it does not use. What that costs the process is measured where CAISSON_OFFLOAD
// says in how many pairs of turns, with the policy and without; make bench-vm does.
func TestControllerOffloads(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Swap)
	pairs, _ := strconv.Atoi(os.Getenv("CAISSON_OFFLOAD"))
	h := open(t)
	p := newHalves(t, h, "halves", elastic.Standard)
	if err := p.Reclaim(deadline(t), 4096); errors.Is(err, isolation.ErrNotSupported) {
		testutil.Skip(t, "memory.reclaim", "%v", err)
	}
	// In a hurry, since what is to be seen is that it finds the right half; where
	// the cost is measured, sixty times as fast as by default, to be done in minutes.
	policy, patience := &elastic.Offload{Ratio: 0.05, Stall: 0.05, Period: 100 * time.Millisecond, Refault: 0.2}, 10*time.Second
	if pairs > 0 {
		policy, patience = &elastic.Offload{Ratio: 0.005, Period: time.Second}, 2*time.Minute
	}
	var asked uint64
	controller := func(policies ...elastic.Policy) (step func()) {
		ctl, err := elastic.New(h, elastic.Config{Policies: policies, OnDecision: func(d elastic.Decision) {
			if d.State == elastic.Made {
				asked += d.Bytes
			}
		}})
		require.NoError(t, err)
		return func() { require.NoError(t, ctl.Step(context.Background())) }
	}
	step, rest := controller(policy), controller() // the other one only looks
	const rounds = 64                              // of a turn
	var before round
	if pairs > 0 {
		before = p.each(2*rounds, rest)
	}
	from, _ := p.last()
	var swapped uint64
	for began := time.Now(); time.Since(began) < testutil.Patience(patience) && swapped < coldHalf*7/10; {
		time.Sleep(100 * time.Millisecond)
		step()
		swapped, _ = p.stat(t).Memory.Swap.Value()
	}
	to, _ := p.last()
	returned := float64(swapped) / coldHalf
	back, _ := p.st.Memory.RefaultAnon.Value()
	t.Logf("%.0f%% of the cold half returned, %d MiB asked for, %d pages came back, in %v", 100*returned, asked>>20, back, to.at-from.at)
	assert.GreaterOrEqual(t, returned, 0.6)
	if pairs == 0 {
		return
	}
	after := p.each(2*rounds, rest)
	t.Logf("a round without it: %v of CPU before, %v after, %+.2f%%", before.cpu, after.cpu, 100*(float64(after.cpu)/float64(before.cpu)-1))
	var cpu, all []float64
	for i := range pairs {
		var on, off round
		if i%2 == 0 {
			on, off = p.each(rounds, step), p.each(rounds, rest)
		} else {
			off, on = p.each(rounds, rest), p.each(rounds, step)
		}
		cpu, all = append(cpu, float64(on.cpu)/float64(off.cpu)), append(all, float64(on.at)/float64(off.at))
	}
	mean, within := loss(cpu)
	again, _ := p.stat(t).Memory.RefaultAnon.Value()
	swapped, _ = p.st.Memory.Swap.Value()
	t.Logf("with it, %d pairs of turns: %+.3f%% more CPU a round, ± %.3f%%; %d pages came back, %d MiB in swap", pairs, 100*mean, 100*within, again-back, swapped>>20)
	assert.Less(t, mean, 0.02)
	mean, within = loss(all)
	t.Logf("%+.3f%% more time a round, ± %.3f%%", 100*mean, 100*within)
}
