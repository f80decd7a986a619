// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"math"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wired is a sandbox with one link that sends so much, under a limit and one of its
// owner.
func wired(id string, class Class, rate, limit, base float64) Use {
	return Use{ID: id, Class: class, Network: &NetworkUse{
		Links: []LinkUse{{Link: "eth0", Egress: Flow{Rate: rate, Max: limit, Base: base}}},
	}}
}

// sends are the limits of what is sent that the corrections set, infinite for max.
func sends(t *testing.T, cs []Correction) map[string]float64 {
	t.Helper()
	m := make(map[string]float64)
	for _, c := range cs {
		require.NoError(t, c.Validate())
		require.Len(t, c.Network, 1)
		l := c.Network[0]
		require.Equal(t, "eth0", l.Link)
		if l.Egress.IsMax() {
			m[c.Sandbox] = math.Inf(1)
		} else if v, ok := l.Egress.Value(); ok {
			m[c.Sandbox] = float64(v)
		}
	}
	return m
}

func TestNetworkGuardTable(t *testing.T) {
	const mb = 1e6
	lossy := wired("web", LatencyCritical, 10*mb, 0, 0)
	lossy.Network.Retransmitted = 0.1
	bounded := wired("web", LatencyCritical, 10*mb, 10*mb, 10*mb)
	bounded.Network.Retransmitted, bounded.Network.Links[0].Egress.Dropped = 0.1, 0.09
	slow := wired("web", LatencyCritical, 10*mb, 0, 0)
	slow.Service = &Service{Target: time.Millisecond, Latency: 2 * time.Millisecond, Samples: 9}
	uplink := func(change func(*LinkUse)) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Machine.Uplink = &LinkUse{Link: "up0", Egress: Flow{Max: 100 * mb}}
			change(s.Machine.Uplink)
		}
	}
	for name, c := range map[string]struct {
		policy NetworkGuard
		uses   []Use
		also   func(*Snapshot)
		want   map[string]float64
		figure Figure
	}{
		"link - others - 10% of others": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", Standard, 60*mb, 0, 0)},
			want: map[string]float64{"job": 34 * mb}, figure: FigureEgress,
		},
		"link - others - 5% of the link": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", LatencyCritical, 10*mb, 0, 0)},
			want: map[string]float64{"job": 85 * mb}, figure: FigureEgress,
		},
		"the fleet says how much, and what the machine itself sends": {
			uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", LatencyCritical, 10*mb, 0, 0)},
			also: uplink(func(l *LinkUse) { l.Egress.Rate = 90 * mb }),
			want: map[string]float64{"job": 55 * mb}, figure: FigureEgress,
		},
		"divided by demand": {
			policy: NetworkGuard{Egress: 100 * mb},
			uses:   []Use{wired("a", BestEffort, 2*mb, 0, 0), wired("b", BestEffort, 50*mb, 50*mb, 0), wired("web", LatencyCritical, 10*mb, 0, 0)},
			want:   map[string]float64{"a": 2 * mb, "b": 83 * mb}, figure: FigureEgress,
		},
		"as it is": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 50*mb, 84*mb, 0), wired("web", LatencyCritical, 10*mb, 0, 0)},
		},
		"its owner's limit is less": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 20*mb, 20*mb, 20*mb), wired("web", LatencyCritical, 10*mb, 0, 0)},
		},
		"back to its owner's limit": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 5*mb, 5*mb, 20*mb), wired("web", LatencyCritical, 10*mb, 0, 0)},
			want: map[string]float64{"job": math.Inf(1)},
		},
		"the floor": {
			policy: NetworkGuard{Egress: 100 * mb}, uses: []Use{wired("job", BestEffort, 9*mb, 0, 0), wired("web", LatencyCritical, 99*mb, 0, 0)},
			want: map[string]float64{"job": mb}, figure: FigureEgress,
		},
		"nobody suffers":                  {uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", LatencyCritical, 10*mb, 0, 0)}},
		"nobody suffers any more":         {uses: []Use{wired("job", BestEffort, 5*mb, 5*mb, 0), service(1)}, want: map[string]float64{"job": math.Inf(1)}},
		"nobody to protect":               {policy: NetworkGuard{Egress: 10 * mb}, uses: []Use{wired("job", BestEffort, 50*mb, 0, 0)}},
		"nobody to protect any more":      {policy: NetworkGuard{Egress: 10 * mb}, uses: []Use{wired("job", BestEffort, 5*mb, 5*mb, 0)}, want: map[string]float64{"job": math.Inf(1)}},
		"segments are lost":               {uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), lossy}, want: map[string]float64{"job": 35 * mb}, figure: FigureRetransmits},
		"lost in a queue of its own":      {uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), bounded}},
		"lost, but not because of them":   {uses: []Use{wired("job", BestEffort, mb/2, 0, 0), lossy}},
		"frozen":                          {uses: []Use{{ID: "job", Class: BestEffort, Frozen: true, Network: wired("job", BestEffort, 50*mb, 0, 0).Network}, lossy}},
		"a service is slow":               {uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), slow}, want: map[string]float64{"job": 35 * mb}, figure: FigureSlack},
		"slow with the network to itself": {uses: []Use{wired("job", BestEffort, 5*mb, 0, 0), slow}},
		"packets wait": {
			uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", LatencyCritical, mb, 0, 0)},
			also: uplink(func(l *LinkUse) { l.Egress.Max, l.Egress.Delay = 0, 40*time.Millisecond }),
			want: map[string]float64{"job": 35 * mb}, figure: FigureUplinkDelay,
		},
		"packets are dropped": {
			uses: []Use{wired("job", BestEffort, 50*mb, 0, 0), wired("web", LatencyCritical, mb, 0, 0)},
			also: uplink(func(l *LinkUse) { l.Egress.Max, l.Egress.Dropped = 0, 0.03 }),
			want: map[string]float64{"job": 35 * mb}, figure: FigureUplinkDropped,
		},
		"no networks": {policy: NetworkGuard{Egress: mb}, uses: []Use{batch("job", 1, 0), service(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := shot(1, c.uses...)
			if c.also != nil {
				c.also(s)
			}
			planner, err := NewPlanner([]Policy{&c.policy}, 0)
			require.NoError(t, err)
			var cs []Correction
			for _, p := range planner.Plan(s) {
				require.Empty(t, p.Refused)
				cs = append(cs, p.Correction)
			}
			got := sends(t, cs)
			require.Len(t, got, len(c.want), "%v", cs)
			for id, want := range c.want {
				if math.IsInf(want, 1) {
					assert.InDelta(t, want, got[id], 0)
				} else {
					assert.InDelta(t, want, got[id], 2, "%v", cs)
				}
			}
			for _, made := range cs {
				if made.Rung == Throttle && made.Sandbox != "a" {
					assert.Equal(t, c.figure, made.Expect.Figure)
					_, _, known := made.Expect.met(s)
					assert.True(t, known)
				}
			}
		})
	}
	assert.Empty(t, (&NetworkGuard{Egress: mb}).Decide(&Snapshot{Sandboxes: []Use{lossy}}), "the first snapshot has no rates")
}

// What is received is limited for itself, and a service that is slow has it come down
// if that is what best effort does most.
func TestNetworkGuardReceives(t *testing.T) {
	job := wired("job", BestEffort, 1e6, 0, 0)
	job.Network.Links[0].Ingress.Rate = 80e6
	slow := wired("web", LatencyCritical, 2e6, 0, 0)
	slow.Service = &Service{Target: time.Millisecond, Latency: 2 * time.Millisecond, Samples: 9}
	cs := (&NetworkGuard{}).Decide(shot(1, job, slow))
	require.Len(t, cs, 1)
	assert.Equal(t, []LinkLimits{{Link: "eth0", Ingress: cgroups.Count(56e6)}}, cs[0].Network)
	job.Network.Links[0].Ingress.Fixed = true
	assert.Empty(t, (&NetworkGuard{Ingress: 10e6}).Decide(shot(1, job, slow)), "what nobody can limit")
	job.Network.Links[0].Ingress.Fixed = false
	cs = (&NetworkGuard{Ingress: 100e6}).Decide(shot(1, job, wired("web", LatencyCritical, 2e6, 0, 0)))
	require.Len(t, cs, 1)
	assert.Equal(t, []LinkLimits{{Link: "eth0", Ingress: cgroups.Count(95e6)}}, cs[0].Network)
	assert.Equal(t, FigureIngress, cs[0].Expect.Figure)
}

// TestNetworkGuardProperties closes the loop over a link of 100 Mbit/s: two
// best-effort sandboxes send what they may, a service sends what the signal says, up to
// 80, and loses segments when there is more than the link carries.
func TestNetworkGuardProperties(t *testing.T) {
	testutil.Require(t, testutil.Real)
	const link, rounds = 100e6, 300
	for _, known := range []float64{link, 0} {
		for name, signal := range signals() {
			t.Run(name, func(t *testing.T) {
				p := &NetworkGuard{Egress: known}
				limits := map[string]float64{"a": math.Inf(1), "b": math.Inf(1)}
				wants := map[string]float64{"a": 60e6, "b": 90e6}
				turns, down, overfull, late := 0, false, 0, 0
				for i := 1; i <= rounds; i++ {
					web := wired("web", LatencyCritical, 80e6*signal(i), 0, 0)
					all := 80e6 * signal(i)
					var uses []Use
					for _, id := range []string{"a", "b"} {
						rate, limit := min(wants[id], limits[id]), limits[id]
						if math.IsInf(limit, 1) {
							limit = 0
						}
						all += rate
						uses = append(uses, wired(id, BestEffort, rate, limit, 0))
					}
					if all > link {
						web.Network.Retransmitted = 0.1
						if i > rounds/2 {
							overfull++
						}
					}
					given, was := 0.0, limits["a"]+limits["b"]
					cs := p.Decide(shot(i, append(uses, web)...))
					for id, v := range sends(t, cs) {
						require.GreaterOrEqual(t, v, 1e6-1, "nobody is left nothing")
						if limits[id] = v; i > rounds/2 {
							late++
						}
					}
					if given = limits["a"] + limits["b"]; known > 0 {
						require.LessOrEqual(t, given, max(2e6, 0.95*link)*1.06, "never more than the link without its reserve")
						if was > 0 && !math.IsInf(was, 1) {
							require.LessOrEqual(t, given, was+0.16*link, "back in steps")
						}
					}
					if given < was && !down {
						turns++
					}
					down = given < was || given == was && down
				}
				switch {
				case known > 0 && (name == "low" || name == "constant"):
					assert.Zero(t, overfull, "it comes to rest, below what the link carries")
					assert.LessOrEqual(t, late, 2)
				case known > 0 && name == "sine":
					assert.Zero(t, overfull, "the reserve is enough for a second")
				case known == 0:
					assert.LessOrEqual(t, turns, rounds/6, "it comes down fast and goes up slowly")
					assert.LessOrEqual(t, overfull, rounds/2/3)
				}
			})
		}
	}
}

func TestMonitorNetworks(t *testing.T) {
	web := wired("web", LatencyCritical, 1e6, 0, 0)
	web.Network.Retransmitted = 0.06
	s := shot(1, wired("job", BestEffort, 9e6, 0, 0), web)
	s.Machine.Uplink = &LinkUse{Link: "up0", Egress: Flow{Dropped: 0.3}}
	var got []string
	for _, r := range NewMonitor(MonitorConfig{}).Observe(s) {
		got = append(got, r.String())
	}
	assert.Equal(t, []string{
		"the machine: network-short is critical (0.30), was fine; job 90%, web 10%",
		"web: network-short is high (0.06), was fine; job 100%",
	}, got)
}
