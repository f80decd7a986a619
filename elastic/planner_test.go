// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scripted is a policy that wants what it is told to.
type scripted struct {
	name   string
	levers []Lever
	wants  func(*Snapshot) []Correction
}

func (p *scripted) Name() string                    { return p.name }
func (p *scripted) Levers() []Lever                 { return p.levers }
func (p *scripted) Decide(s *Snapshot) []Correction { return p.wants(s) }

func TestNewPlanner(t *testing.T) {
	_, err := NewPlanner(Defaults(), 0)
	require.NoError(t, err)
	for name, policies := range map[string][]Policy{
		"nil":        {nil},
		"no name":    {&scripted{}},
		"same name":  {&scripted{name: "a"}, &scripted{name: "a"}},
		"same lever": {&CPUSuppress{}, &scripted{name: "a", levers: []Lever{{BestEffort, KnobCPUMax}}}},
	} {
		_, err := NewPlanner(policies, 0)
		require.ErrorIs(t, err, cgroups.ErrInvalid, name)
	}
	_, err = NewPlanner([]Policy{&CPUSuppress{}, &scripted{name: "a", levers: []Lever{{Standard, KnobCPUMax}}}}, 0)
	require.NoError(t, err, "of another class")
}

func TestLadder(t *testing.T) {
	var next []Correction
	policy := &scripted{
		name:   "p",
		levers: []Lever{{BestEffort, KnobFreeze}, {BestEffort, KnobKill}, {LatencyCritical, KnobFreeze}, {LatencyCritical, KnobKill}},
		wants:  func(*Snapshot) []Correction { return next },
	}
	p, err := NewPlanner([]Policy{policy}, 15*time.Second)
	require.NoError(t, err)
	plan := func(n int, c Correction, frozen bool) string {
		t.Helper()
		c.Policy, c.Reason = "p", "because"
		next = []Correction{c}
		uses := []Use{{ID: "a", Class: BestEffort, Frozen: frozen}, {ID: "b", Class: BestEffort}, service(1)}
		out := p.Plan(shot(n, uses...))
		require.Len(t, out, 1)
		return out[0].Refused
	}
	kill, freeze := Correction{Sandbox: "a", Rung: Kill}, Correction{Sandbox: "a", Rung: Freeze}
	assert.Contains(t, plan(1, kill, false), "nothing milder")
	assert.Empty(t, plan(2, freeze, false))
	assert.Empty(t, plan(3, kill, true))
	assert.Contains(t, plan(4, kill, true), "the last kill was")
	assert.Empty(t, plan(18, kill, true), "frozen is milder, and lasts")
	assert.Contains(t, plan(100, kill, false), "nothing milder", "what was tried is long ago")
	assert.Contains(t, plan(101, Correction{Sandbox: "web", Rung: Freeze}, false), "only best-effort")
	assert.Contains(t, plan(102, Correction{Sandbox: "web", Rung: Kill}, false), "only best-effort")
	assert.Contains(t, plan(103, Correction{Sandbox: "x", Rung: Freeze}, false), "no such sandbox")
	assert.Contains(t, plan(104, Correction{Sandbox: "a", Rung: Throttle, Resources: cgroups.Resources{
		CPU: cgroups.CPU{Max: cgroups.CPUs(1)},
	}}, false), "cpu.max of best-effort is no lever of p")
	assert.Contains(t, plan(105, Correction{Sandbox: "a", Rung: Throttle, Resources: cgroups.Resources{
		PIDs: cgroups.PIDs{Max: cgroups.Count(5)},
	}}, false), "no lever of p")
	assert.Contains(t, plan(106, Correction{Sandbox: "a", Rung: Reclaim}, false), "reclaim, and only reclaim")
	assert.Empty(t, plan(107, Correction{Sandbox: "a", Rung: Reclaim, Bytes: 4096}, false))
	assert.Empty(t, plan(108, kill, false), "reclaiming counts")
}

func TestCorrectionValidate(t *testing.T) {
	limits := cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(1)}}
	good := Correction{Policy: "p", Sandbox: "a", Reason: "r"}
	with := func(r Rung, res cgroups.Resources, bytes uint64) Correction {
		c := good
		c.Rung, c.Resources, c.Bytes = r, res, bytes
		return c
	}
	for _, c := range []Correction{
		with(Throttle, limits, 0), with(Release, limits, 0), with(Release, cgroups.Resources{}, 0),
		with(Reclaim, cgroups.Resources{}, 1), with(Freeze, cgroups.Resources{}, 0), with(Kill, cgroups.Resources{}, 0),
	} {
		require.NoError(t, c.Validate(), "%v", c)
	}
	for _, c := range []Correction{
		{}, good, with(Throttle, cgroups.Resources{}, 0), with(Freeze, limits, 0), with(Reclaim, cgroups.Resources{}, 0),
		with(Kill, cgroups.Resources{}, 5), with(Kill+1, limits, 0), {Sandbox: "a", Rung: Freeze, Reason: "r"},
		with(Throttle, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(-1)}}, 0),
	} {
		require.ErrorIs(t, c.Validate(), cgroups.ErrInvalid, "%v", c)
	}
}
