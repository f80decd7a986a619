// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
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
// other never.
type halves struct {
	*isolation.Sandbox
	rounds atomic.Int64
	st     cgroups.Stats
}

const coldHalf = 24 << 20

func newHalves(t *testing.T, h *isolation.Host, id string, class elastic.Class) *halves {
	p := &halves{Sandbox: create(t, h, isolation.Spec{ID: id, Class: class, Process: program(t, "halves", strconv.Itoa(2*coldHalf>>20))})}
	out := bufio.NewReader(run(t, p.Sandbox))
	read := func() error {
		_, err := out.ReadString('\n')
		p.rounds.Add(1)
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

// did is its rounds and the CPU time that they took.
func (p *halves) did(t *testing.T) (rounds, seconds float64) {
	cpu, _ := p.stat(t).CPU.Usage.Value()
	return float64(p.rounds.Load()), cpu.Seconds()
}

// against is how fast p is, in units of how fast other is at the same time: the
// median of n seconds.
func (p *halves) against(t *testing.T, other *halves, n int) float64 {
	var list []float64
	for range max(n, 1) {
		r1, s1 := p.did(t)
		o1, t1 := other.did(t)
		time.Sleep(time.Second)
		r2, s2 := p.did(t)
		o2, t2 := other.did(t)
		list = append(list, (r2-r1)/(s2-s1)/((o2-o1)/(t2-t1)))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// TestControllerOffloads has a controller find the half of a process's memory that
// it does not use. What that costs the process, compared with another one at the
// same time, is measured; it is asserted where CAISSON_OFFLOAD says for how many
// seconds, of which a quiet machine needs some tens to tell 2% apart.
func TestControllerOffloads(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Swap)
	seconds, _ := strconv.Atoi(os.Getenv("CAISSON_OFFLOAD"))
	h := open(t)
	p := newHalves(t, h, "halves", elastic.Standard)
	if err := p.Reclaim(deadline(t), 4096); errors.Is(err, isolation.ErrNotSupported) {
		testutil.Skip(t, "memory.reclaim", "%v", err)
	}
	var other *halves
	var before float64
	if seconds > 0 {
		other = newHalves(t, h, "other", elastic.LatencyCritical)
		before = p.against(t, other, seconds)
	}
	var asked uint64
	ctl, err := elastic.New(h, elastic.Config{
		Policies: []elastic.Policy{&elastic.Offload{Ratio: 0.05, Stall: 0.05, Period: 100 * time.Millisecond, Refault: 0.2}},
		OnDecision: func(d elastic.Decision) {
			if d.State == elastic.Made {
				asked += d.Bytes
			}
		},
	})
	require.NoError(t, err)
	var swapped uint64
	for began := time.Now(); time.Since(began) < testutil.Patience(10*time.Second) && swapped < coldHalf*8/10; {
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, ctl.Step(context.Background()))
		swapped, _ = p.stat(t).Memory.Swap.Value()
	}
	returned := float64(swapped) / coldHalf
	back, _ := p.st.Memory.RefaultAnon.Value()
	t.Logf("%.0f%% of the cold half returned, %d MiB asked for, %d pages came back", 100*returned, asked>>20, back)
	assert.GreaterOrEqual(t, returned, 0.6)
	if seconds > 0 {
		after := p.against(t, other, seconds)
		t.Logf("its speed in units of the other's: %.3f before, %.3f after, %+.1f%%", before, after, 100*(after/before-1))
		assert.Greater(t, after, 0.98*before)
	}
}
