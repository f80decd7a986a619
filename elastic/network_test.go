// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plugged is a dummy with a network.
type plugged struct {
	dummy
	stats    NetworkStats
	squeezes [][]LinkLimits
}

func (p *plugged) MeasureNetwork(n *NetworkStats) error {
	if p.stats.Links == nil {
		return &cgroups.UnsupportedError{Feature: "network", Reason: "it has none"}
	}
	n.Links = append(n.Links[:0], p.stats.Links...)
	n.Segments, n.Retransmitted = p.stats.Segments, p.stats.Retransmitted
	return p.fail
}

func (p *plugged) SqueezeNetwork(_ context.Context, limits ...LinkLimits) error {
	p.squeezes = append(p.squeezes, limits)
	return nil
}

type linked struct {
	fleet
	up *UplinkStats
}

func (f *linked) Uplink(u *UplinkStats) error {
	if f.up == nil {
		return &cgroups.UnsupportedError{Feature: "uplink", Reason: "there is none"}
	}
	*u = *f.up
	return nil
}

func TestMeterNetworks(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	job, none := &plugged{dummy: dummy{id: "job", class: BestEffort}}, &plugged{dummy: dummy{id: "none"}}
	job.stats = NetworkStats{
		Links:    []LinkStats{{Link: "eth0", Egress: QueueStats{Bytes: 1000, Packets: 10}, EgressMax: 5e6, EgressBase: 8e6}},
		Segments: 100, Retransmitted: 5,
	}
	f := &linked{fleet: fleet{[]Target{job, none, &dummy{id: "plain"}}}, up: &UplinkStats{Link: "up0", Sends: 1e9}}
	s, err := NewMeter(f, Defaults()...).Read()
	require.NoError(t, err)
	assert.Nil(t, s.Find("job").Network, "nobody asked")
	assert.Nil(t, s.Machine.Uplink)

	m := NewMeter(f, &NetworkGuard{})
	s, err = m.Read()
	require.NoError(t, err)
	assert.Nil(t, s.Find("none").Network)
	assert.Nil(t, s.Find("plain").Network)
	assert.Equal(t, &NetworkUse{Links: []LinkUse{{Link: "eth0", Egress: Flow{Max: 5e6, Base: 8e6}}}}, s.Find("job").Network)
	assert.Equal(t, &LinkUse{Link: "up0", Egress: Flow{Max: 1e9}}, s.Machine.Uplink)

	job.stats.Links[0].Egress = QueueStats{Bytes: 1_001_000, Packets: 100, Drops: 10, Backlog: 5000}
	job.stats.Links = append(job.stats.Links, LinkStats{Link: "eth1", Ingress: QueueStats{Bytes: 1 << 40}})
	job.stats.Segments, job.stats.Retransmitted = 200, 15
	f.up.Egress = QueueStats{Bytes: 500, Packets: 99, Drops: 1}
	s, err = m.Read()
	require.NoError(t, err)
	u := s.Find("job").Network
	e := u.Links[0].Egress
	assert.InEpsilon(t, 8e6/s.Elapsed.Seconds(), e.Rate, 1e-9)
	assert.InDelta(t, 0.1, e.Dropped, 1e-9)
	assert.InDelta(t, s.Elapsed.Seconds()/200, e.Delay.Seconds(), 2e-9, "at the rate at which the queue empties")
	assert.Zero(t, u.Links[1].Ingress.Rate, "a link that is new has no rate yet")
	assert.InDelta(t, 0.1, u.Retransmitted, 1e-9)
	assert.InDelta(t, 0.01, s.Machine.Uplink.Egress.Dropped, 1e-9)

	// A counter that begins anew, a queue that stands still, and figures that fail.
	job.stats.Links = []LinkStats{{Link: "eth0", Egress: QueueStats{Bytes: 0, Backlog: 100}}}
	f.up = nil
	s, err = m.Read()
	require.NoError(t, err)
	assert.Equal(t, Flow{Delay: s.Elapsed}, s.Find("job").Network.Links[0].Egress)
	assert.Nil(t, s.Machine.Uplink)
	job.dummy.fail = os.ErrClosed
	s, err = m.Read()
	require.NoError(t, err)
	assert.Nil(t, s.Find("job"))
	assert.ErrorIs(t, m.Missing()["job"], os.ErrClosed)
}

// TestControllerNetworks has a policy limit a network, and sees that the limit is
// renewed as long as the sandbox is there, and what is recorded.
func TestControllerNetworks(t *testing.T) {
	testutil.Require(t, testutil.Linux)
	job := &plugged{dummy: dummy{id: "job", class: BestEffort}, stats: NetworkStats{Links: []LinkStats{{Link: "eth0"}}}}
	f := &fleet{[]Target{job}}
	limit := []LinkLimits{{Link: "eth0", Egress: cgroups.Count(5e6), Ingress: cgroups.Max()}}
	p := want(Correction{Sandbox: "job", Rung: Throttle, Network: limit})
	var trace bytes.Buffer
	var last Decision
	c, err := New(f, Config{Policies: []Policy{p}, Trace: &trace, OnDecision: func(d Decision) { last = d }})
	require.NoError(t, err)
	require.NoError(t, c.Step(context.Background()))
	assert.Equal(t, Refused, last.State)
	assert.Equal(t, "network.egress of best-effort is no lever of p", last.Why)

	p.levers = []Lever{{BestEffort, KnobEgress}, {BestEffort, KnobIngress}}
	c, err = New(f, Config{Policies: []Policy{p}, Trace: &trace, OnDecision: func(d Decision) { last = d }})
	require.NoError(t, err)
	require.NoError(t, c.Step(context.Background()))
	assert.Equal(t, Made, last.State, "%v", last)
	assert.Equal(t, [][]LinkLimits{limit}, job.squeezes)
	for r, err := range ReadTrace(&trace) {
		require.NoError(t, err)
		require.Len(t, r.Decisions, 1)
		assert.Equal(t, limit, r.Decisions[0].Network)
		if r.Decisions[0].State == Made {
			assert.Equal(t, "eth0", r.Snapshot.Sandboxes[0].Network.Links[0].Link)
		}
	}
	at := func(d time.Duration) *Snapshot { return &Snapshot{At: d, Sandboxes: []Use{{ID: "job"}}} }
	c.renew(context.Background(), at(SqueezeLasts/3+time.Second))
	assert.Equal(t, [][]LinkLimits{limit, nil}, job.squeezes)
	c.renew(context.Background(), at(SqueezeLasts/3+2*time.Second))
	assert.Len(t, job.squeezes, 2, "not before it is time")
	c.renew(context.Background(), &Snapshot{At: 2 * SqueezeLasts})
	assert.Empty(t, c.narrowed)

	f.targets[0] = &dummy{id: "job", class: BestEffort}
	require.NoError(t, c.Step(context.Background()))
	assert.Equal(t, Faulted, last.State)
}

func TestNetworkCorrections(t *testing.T) {
	good := Correction{Policy: "p", Sandbox: "s", Reason: "r", Rung: Throttle, Network: []LinkLimits{{Link: "eth0", Egress: cgroups.Count(1)}}}
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*Correction){
		"no link":      func(c *Correction) { c.Network = []LinkLimits{{Egress: cgroups.Count(1)}} },
		"no direction": func(c *Correction) { c.Network = []LinkLimits{{Link: "eth0"}} },
		"nothing":      func(c *Correction) { c.Network = []LinkLimits{{Link: "eth0", Ingress: cgroups.Count(0)}} },
		"freeze":       func(c *Correction) { c.Rung = Freeze },
		"two things":   func(c *Correction) { c.Resources.CPU.Max = cgroups.CPUs(1) },
	} {
		c := good
		change(&c)
		assert.ErrorIs(t, c.Validate(), cgroups.ErrInvalid, name)
	}
	good.Rung = Release
	require.NoError(t, good.Validate())
	assert.False(t, good.Thaws())
	assert.True(t, Correction{Rung: Release}.Thaws())
}
