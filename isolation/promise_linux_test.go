// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What sandboxes are promised is promised to the groups above them, which the kernel
// asks for.
func TestPromises(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Requirement("cgroup2.memory"))
	cfg := config(t)
	outer := cfg.Parent
	cfg.Parent += "/inner"
	h := must(isolation.Open(deadline(t), cfg))
	promised := func(path string) (m cgroups.Memory) {
		t.Helper()
		g := must(h.Root().Open(path))
		defer g.Close()
		r := must(g.Resources(cgroups.ControllerMemory))
		return cgroups.Memory{Low: r.Memory.Low, Min: r.Memory.Min}
	}
	memory := func(low, least uint64) cgroups.Memory {
		return cgroups.Memory{Low: cgroups.Bytes(low << 20), Min: cgroups.Bytes(least << 20)}
	}
	all := func(low, least uint64) {
		t.Helper()
		assert.Equal(t, memory(low, least), promised(cfg.Parent))
		assert.Equal(t, memory(low, least), promised(outer))
	}
	all(0, 0)
	web := create(t, h, isolation.Spec{ID: "web", Process: program(t, "wait"), Resources: cgroups.Resources{Memory: memory(32, 8)}})
	all(32, 8)
	job := create(t, h, isolation.Spec{
		ID: "job", Class: elastic.BestEffort, Process: program(t, "wait"), Resources: cgroups.Resources{Memory: memory(4, 0)},
	})
	all(36, 8)
	assert.Equal(t, memory(4, 0), promised(cfg.Parent+"/_best-effort"))

	_, err := web.Update(deadline(t), cgroups.Resources{Memory: cgroups.Memory{Low: cgroups.Bytes(16 << 20)}})
	require.NoError(t, err)
	all(20, 8)
	require.NoError(t, job.Squeeze(deadline(t), cgroups.Resources{Memory: cgroups.Memory{Low: cgroups.Bytes(8 << 20)}}))
	all(24, 8)

	// Whoever opens the host after a crash in the middle makes it right.
	_, err = h.Parent().Update(deadline(t), cgroups.Resources{Memory: memory(1, 1)})
	require.NoError(t, err)
	require.NoError(t, h.Close())
	h = openWith(t, cfg)
	all(24, 8)
	require.NoError(t, h.Destroy(deadline(t), "web"))
	all(8, 0)
	require.NoError(t, h.Destroy(deadline(t), "job"))
	all(0, 0)
}

// TestControllerProtects has a controller protect what a service works with.
func TestControllerProtects(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Requirement("cgroup2.memory"))
	h := open(t)
	web := create(t, h, isolation.Spec{ID: "web", Class: elastic.LatencyCritical, Process: program(t, "halves", "64")})
	defer run(t, web).Close()
	var last elastic.Decision
	ctl, err := elastic.New(h, elastic.Config{
		Policies: []elastic.Policy{&elastic.MemoryProtect{}}, OnDecision: func(d elastic.Decision) { last = d },
	})
	require.NoError(t, err)
	var low uint64
	require.Eventually(t, func() bool {
		require.NoError(t, ctl.Step(deadline(t)))
		low, _ = must(web.Limits(cgroups.ControllerMemory)).Memory.Low.Value()
		return low > 48<<20
	}, testutil.Patience(20*time.Second), 50*time.Millisecond, "%v", last)
	all := must(h.Parent().Resources(cgroups.ControllerMemory)).Memory.Low
	assert.Equal(t, cgroups.Bytes(low), all)
	assert.True(t, web.Asked().Memory.Low.IsZero())
}
