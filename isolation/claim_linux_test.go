// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
)

// claimed is a sandbox with a limit of 50 processes, and time that stands still.
type claimed struct {
	*Sandbox
	*manual
	t   *testing.T
	cfg Config
	top string
}

func newClaimed(t *testing.T, cfg Config) *claimed {
	t.Helper()
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	cfg.Root, cfg.Parent = t.TempDir()+"/state", testutil.CgroupName(t)
	c := &claimed{t: t, cfg: cfg, manual: newManual()}
	c.open()
	var err error
	c.Sandbox, err = c.host().Create(c.ctx(), Spec{
		ID: "web", Process: Process{Args: []string{"/bin/true"}}, Resources: pidsMax(50),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		h := c.host()
		assert.NoError(t, h.Destroy(c.ctx(), "web"))
		assert.NoError(t, h.Remove(c.ctx()))
		assert.NoError(t, h.Close())
	})
	return c
}

// open opens the host, with the test's clock.
func (c *claimed) open() {
	c.t.Helper()
	c.cfg.clock = c.manual.clock()
	h, err := Open(context.Background(), c.cfg)
	require.NoError(c.t, err)
	var ok bool
	c.top, _, ok = h.Root().Where(cgroups.ControllerPIDs)
	if !ok {
		assert.NoError(c.t, h.Close())
		testutil.Skip(c.t, testutil.Cgroup2("pids"), "no hierarchy has it")
	}
	if c.Sandbox, err = h.Sandbox(c.ctx(), "web"); err != nil {
		c.Sandbox = &Sandbox{host: h} // until it is made
	}
}

func (c *claimed) host() *Host { return c.Sandbox.host }

func (c *claimed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	c.t.Cleanup(cancel)
	return ctx
}

func (c *claimed) take(owner string, priority int, lease time.Duration, r cgroups.Resources) error {
	_, err := c.Claim(c.ctx(), Claim{Owner: owner, Priority: priority, Lease: lease, Resources: r})
	return err
}

func (c *claimed) drop(owner string) {
	c.t.Helper()
	_, err := c.Unclaim(c.ctx(), owner)
	require.NoError(c.t, err)
}

// pids is what the kernel has.
func (c *claimed) pids() string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.top, c.Cgroup().Path(), "pids.max"))
	require.NoError(c.t, err)
	return strings.TrimSpace(string(b))
}

// TestClaim: two controllers that want the same knob do not fight over it
// (koordinator-2306, koordinator-3176).
func TestClaim(t *testing.T) {
	c := newClaimed(t, Config{})
	require.NoError(t, c.take("batch", 1, time.Minute, pidsMax(20)))
	assert.Equal(t, "20", c.pids())
	assert.Equal(t, cgroups.Count(20), c.Spec().Resources.PIDs.Max, "what holds")

	err := c.take("other", 1, time.Minute, pidsMax(30))
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, &ConflictError{Knob: "pids.max", Owner: "batch", Priority: 1, Until: c.now().Add(time.Minute)}, conflict)
	_, err = c.Update(c.ctx(), pidsMax(60))
	require.ErrorIs(t, err, ErrConflict)
	_, err = c.Plan(pidsMax(60))
	require.ErrorIs(t, err, ErrConflict)
	assert.Equal(t, "20", c.pids())

	require.NoError(t, c.take("guard", 5, 10*time.Second, pidsMax(10)), "more priority takes over")
	assert.Equal(t, "10", c.pids())
	st, err := c.Check(c.ctx())
	require.NoError(t, err)
	require.Len(t, st.Claims, 2)
	assert.Equal(t, "guard", st.Claims[0].Owner)
	assert.Equal(t, []string{"pids.max"}, st.Claims[0].Holds)
	assert.Empty(t, st.Claims[1].Holds, "it was outbid")
	assert.Empty(t, st.Drift)

	c.pass(10 * time.Second)
	assert.Equal(t, "20", c.pids(), "the next one's")
	c.pass(40 * time.Second)
	require.NoError(t, c.take("batch", 1, time.Minute, pidsMax(20)), "renewed")
	c.pass(30 * time.Second)
	assert.Equal(t, "20", c.pids())
	require.NoError(t, c.take("batch", 1, time.Minute, pidsMax(25)), "with another value")
	assert.Equal(t, "25", c.pids())
	c.drop("batch")
	c.drop("batch")
	assert.Equal(t, "50", c.pids())
	_, err = c.Update(c.ctx(), pidsMax(60))
	require.NoError(t, err)

	require.NoError(t, c.take("batch", 1, time.Minute, pidsMax(20)))
	c.pass(time.Minute)
	assert.Equal(t, "60", c.pids(), "what Update set")
	assert.Equal(t, cgroups.Count(60), c.Spec().Resources.PIDs.Max)
	c.pass(time.Hour)
}

// TestClaimOfWhatNobodySet gives back what the knob held.
func TestClaimOfWhatNobodySet(t *testing.T) {
	c := newClaimed(t, Config{})
	cpu := func(r cgroups.CPU) cgroups.Resources { return cgroups.Resources{CPU: r} }
	if _, err := c.Plan(cpu(cgroups.CPU{Weight: cgroups.WeightOf(50)})); err != nil {
		testutil.Skip(t, testutil.Cgroup2("cpu"), "%v", err)
	}
	before, err := c.Cgroup().Resources()
	require.NoError(t, err)
	require.NoError(t, c.take("a", 1, time.Minute, cpu(cgroups.CPU{Weight: cgroups.WeightOf(7), Max: cgroups.CPUs(0.5)})))
	now, err := c.Cgroup().Resources()
	require.NoError(t, err)
	assert.Equal(t, cgroups.WeightOf(7), now.CPU.Weight)
	_, err = c.Update(c.ctx(), pidsMax(70))
	require.NoError(t, err, "a knob that nobody holds")
	c.pass(time.Minute)
	now, err = c.Cgroup().Resources()
	require.NoError(t, err)
	assert.Equal(t, before.CPU, now.CPU)
	assert.Equal(t, "70", c.pids())
	assert.True(t, c.Spec().Resources.Equal(pidsMax(70)), "and nobody has set it")

	if before.CPU.Idle != cgroups.Keep {
		_, err = c.Update(c.ctx(), cpu(cgroups.CPU{Weight: cgroups.WeightOf(200)}))
		require.NoError(t, err)
		require.NoError(t, c.take("a", 1, time.Minute, cpu(cgroups.CPU{Idle: cgroups.On})))
		now, err = c.Cgroup().Resources()
		require.NoError(t, err)
		assert.Equal(t, cgroups.On, now.CPU.Idle)
		c.drop("a")
		now, err = c.Cgroup().Resources()
		require.NoError(t, err)
		assert.Equal(t, cgroups.Off, now.CPU.Idle)
		assert.Equal(t, cgroups.WeightOf(200), now.CPU.Weight, "which the kernel forgot meanwhile")
	}
}

// TestClaimRefused: what the kernel does not take is not claimed.
func TestClaimRefused(t *testing.T) {
	c := newClaimed(t, Config{})
	bad := pidsMax(20).Merge(cgroups.Resources{RDMA: []cgroups.RDMA{{Device: "none", Handles: cgroups.Count(1)}}})
	require.Error(t, c.take("a", 1, time.Minute, bad))
	assert.Equal(t, "50", c.pids())
	st, err := c.Check(c.ctx())
	require.NoError(t, err)
	assert.Empty(t, st.Claims)
	assert.True(t, c.Spec().Resources.Equal(pidsMax(50)))
}

// TestClaimRestart: a claim outlives its process, and ends all the same.
func TestClaimRestart(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for _, shared := range []bool{false, true} {
		c := newClaimed(t, Config{Shared: shared})
		require.NoError(t, c.take("a", 1, time.Minute, pidsMax(20)))
		require.NoError(t, c.host().Close())
		c.open()
		assert.Equal(t, "20", c.pids())
		require.ErrorIs(t, c.take("b", 1, time.Minute, pidsMax(30)), ErrConflict)
		require.NoError(t, c.take("a", 1, time.Minute, pidsMax(21)))
		c.pass(59 * time.Second)
		assert.Equal(t, "21", c.pids())
		c.pass(time.Second)
		assert.Equal(t, "50", c.pids())

		require.NoError(t, c.take("a", 1, time.Minute, pidsMax(20)))
		require.NoError(t, c.host().Close())
		c.pass(time.Hour)
		assert.Equal(t, "20", c.pids(), "nobody is there")
		c.open()
		c.pass(0)
		assert.Equal(t, "50", c.pids())
	}
}

// dying is a driver whose process dies before or after it has changed limits.
type dying struct {
	*nativeDriver
	after bool
}

func (d dying) Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if d.after {
		if _, err := d.nativeDriver.Update(ctx, c, r, cfg); err != nil {
			return cgroups.Result{}, err
		}
	}
	panic("died")
}

// TestClaimCrash: a process that dies while it changes who holds what leaves
// nothing behind that does not end.
func TestClaimCrash(t *testing.T) {
	testutil.Require(t, testutil.Real)
	two := pidsMax(20).Merge(cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(7)}})
	for name, dies := range map[string]func(c *claimed){
		"claim":   func(c *claimed) { _ = c.take("b", 2, time.Minute, two) },
		"renew":   func(c *claimed) { _ = c.take("a", 1, time.Minute, pidsMax(30)) },
		"less":    func(c *claimed) { _ = c.take("a", 1, time.Minute, memoryMax(1<<30)) },
		"release": func(c *claimed) { c.drop("a") },
		"expire":  func(c *claimed) { c.pass(time.Minute) },
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(name, after), func(t *testing.T) {
				c := newClaimed(t, Config{})
				if _, err := c.Plan(two); err != nil {
					testutil.Skip(t, testutil.Cgroup2("cpu"), "%v", err)
				}
				before, err := c.Cgroup().Resources()
				require.NoError(t, err)
				require.NoError(t, c.take("a", 1, time.Minute, two))
				native := c.driver.(*nativeDriver)
				c.driver = dying{native, after}
				assert.PanicsWithValue(t, "died", func() { dies(c) })
				c.driver = native
				if name == "expire" {
					// The goroutine would have died with its process.
					c.host().leases = newLeases(c.clock())
				}
				require.NoError(t, c.host().Close())
				c.open()
				c.pass(2 * time.Minute)
				now, err := c.Cgroup().Resources()
				require.NoError(t, err)
				assert.True(t, before.Equal(now), "%+v\n%+v", before, now)
				assert.True(t, c.Spec().Resources.Equal(pidsMax(50)))
				st, err := c.Check(c.ctx())
				require.NoError(t, err)
				assert.Empty(t, st.Claims)
				assert.Empty(t, st.Drift)
			})
		}
	}
}

// TestClaimIsGivenBackLater: when a former value cannot be restored, it is tried
// again, more and more seldom.
func TestClaimIsGivenBackLater(t *testing.T) {
	c := newClaimed(t, Config{})
	require.NoError(t, c.take("a", 1, time.Minute, pidsMax(20)))
	tries := 0
	c.host().leases.expiry = func(context.Context, *Sandbox) error { tries++; return context.DeadlineExceeded }
	c.pass(time.Minute)
	assert.Equal(t, 1, tries)
	c.pass(10 * time.Minute)
	assert.InDelta(t, 15, tries, 2, "after 1, 2, 4 ... seconds, then each minute")
	assert.Equal(t, "20", c.pids())
	c.host().leases.expiry = func(ctx context.Context, s *Sandbox) error { return s.expire(ctx) }
	c.pass(time.Minute)
	assert.Equal(t, "50", c.pids())
}

func TestClaimManyOwners(t *testing.T) {
	testutil.Require(t, testutil.Real)
	c := newClaimed(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			owner := fmt.Sprint("owner-", i)
			for round := range 5 {
				err := c.take(owner, (i+round)%4, time.Minute, pidsMax(uint64(100+i)))
				if err != nil {
					assert.ErrorIs(t, err, ErrConflict)
				}
				if _, err := c.Check(c.ctx()); err != nil {
					assert.NoError(t, err)
				}
				_, err = c.Unclaim(c.ctx(), owner)
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	assert.Equal(t, "50", c.pids())
	st, err := c.Check(c.ctx())
	require.NoError(t, err)
	assert.Empty(t, st.Claims)
	require.NoError(t, c.take("a", 1, time.Minute, pidsMax(1)))
	for i := range maxOwners - 1 {
		require.NoError(t, c.take(fmt.Sprint("b-", i), i, time.Minute, memoryMax(uint64(1<<30+i<<12))))
	}
	require.ErrorIs(t, c.take("c", maxOwners, time.Minute, memoryMax(1<<30)), ErrInvalid)
	none := c.take("", 0, 0, cgroups.Resources{})
	require.ErrorIs(t, none, ErrInvalid)
	assert.NotContains(t, none.Error(), "\n", "all that is wrong, in one line")
}
