// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/nettest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// squeezed limits the sandbox's first interface, in Mbit/s; 0 leaves it, -1 lifts it.
func squeezed(t *testing.T, box *isolation.Sandbox, egress, ingress int) {
	t.Helper()
	limit := func(mbit int) cgroups.Limit {
		switch mbit {
		case 0:
			return cgroups.Limit{}
		case -1:
			return cgroups.Max()
		}
		return cgroups.Count(uint64(mbit) * 1e6)
	}
	require.NoError(t, box.SqueezeNetwork(deadline(t), elastic.LinkLimits{Link: "eth0", Egress: limit(egress), Ingress: limit(ingress)}))
}

// A controller's limits count where they are lower than the owner's, are in no spec, and
// end by themselves.
func TestSqueezeNetwork(t *testing.T) {
	cfg, _ := networked(t)
	pass := isolation.Manual(&cfg)
	h := openWith(t, cfg)
	s := routed(t, "web")
	s.Network.Interfaces[0].Bandwidth = netns.Bandwidth{Egress: netns.BitsPerSecond(100e6)}
	box := create(t, h, s)
	holds := func(egress, ingress uint64) {
		t.Helper()
		e, i := rates(t, cfg, box)
		assert.Equal(t, []uint64{egress * 1e6, ingress * 1e6}, []uint64{e, i})
	}
	narrowed := func() *isolation.Narrowed { return must(box.Check(deadline(t))).Narrowed }

	squeezed(t, box, 50, 30)
	holds(50, 30)
	assert.Equal(t, s.Network.Interfaces[0].Bandwidth, box.Spec().Network.Interfaces[0].Bandwidth)
	assert.Equal(t, map[string]netns.Bandwidth{"eth0": {Egress: netns.BitsPerSecond(50e6), Ingress: netns.BitsPerSecond(30e6)}}, narrowed().Limits)
	var st elastic.NetworkStats
	require.NoError(t, box.MeasureNetwork(&st))
	require.Len(t, st.Links, 1)
	assert.Equal(t, []float64{50e6, 100e6, 30e6, 0}, []float64{st.Links[0].EgressMax, st.Links[0].EgressBase, st.Links[0].IngressMax, st.Links[0].IngressBase})

	squeezed(t, box, 200, 0)
	holds(100, 30)
	own := func(mbit uint64) {
		t.Helper()
		require.NoError(t, box.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(mbit * 1e6)}))
	}
	squeezed(t, box, 50, 0)
	own(40)
	holds(40, 30)
	own(70)
	holds(50, 30)
	squeezed(t, box, 0, -1)
	holds(50, 0)

	pass(40 * time.Second)
	require.NoError(t, box.SqueezeNetwork(deadline(t)), "renewed")
	pass(40 * time.Second)
	holds(50, 0)
	pass(20 * time.Second)
	holds(70, 0)
	assert.Nil(t, narrowed())
	require.NoError(t, box.SqueezeNetwork(deadline(t)))
	assert.Nil(t, narrowed(), "there is nothing to renew")

	for name, l := range map[string]elastic.LinkLimits{
		"no such interface": {Link: "eth9", Egress: cgroups.Max()},
		"no name":           {Egress: cgroups.Max()},
		"too little":        {Link: "eth0", Egress: cgroups.Count(1)},
	} {
		assert.ErrorIs(t, box.SqueezeNetwork(deadline(t), l), isolation.ErrInvalid, name)
	}
	holds(70, 0)
	plain := create(t, h, spec(t, "plain", "wait"))
	assert.ErrorIs(t, plain.SqueezeNetwork(deadline(t)), isolation.ErrNotSupported)
	assert.ErrorIs(t, plain.MeasureNetwork(&st), isolation.ErrNotSupported)
}

// What a controller has limited ends although its agent has ended, and whatever the agent
// was doing then.
func TestSqueezeNetworkCrash(t *testing.T) {
	testutil.Require(t, testutil.Real)
	cfg, _ := networked(t)
	pass := isolation.Manual(&cfg)
	h := must(isolation.Open(deadline(t), cfg))
	s := routed(t, "web")
	s.Network.Interfaces[0].Bandwidth = netns.Bandwidth{Egress: netns.BitsPerSecond(100e6)}
	box := create(t, h, s)
	again := func() {
		t.Helper()
		h = must(isolation.Open(deadline(t), cfg))
		require.Len(t, h.Recovered(), 1)
		require.True(t, h.Recovered()[0].Adopted, "%v", h.Recovered())
		box = must(h.Sandbox(deadline(t), "web"))
	}
	holds := func(egress, ingress uint64) {
		t.Helper()
		e, i := rates(t, cfg, box)
		assert.Equal(t, []uint64{egress * 1e6, ingress * 1e6}, []uint64{e, i})
	}
	squeezed(t, box, 50, 30)
	require.NoError(t, h.Close())
	again()
	holds(50, 30)
	pass(59 * time.Second)
	holds(50, 30)
	pass(time.Second)
	holds(100, 0)

	// It ends while there is no agent.
	squeezed(t, box, 50, 30)
	require.NoError(t, h.Close())
	pass(2 * time.Minute)
	again()
	pass(0)
	holds(100, 0)

	// The agent ends when the kernel has lifted it, and nobody has written that down.
	squeezed(t, box, 50, 30)
	squeezed(t, box, -1, -1)
	holds(100, 0)
	require.NoError(t, h.Close())
	forgetLast(t, cfg, "web", 1)
	again()
	holds(50, 30)
	pass(time.Minute)
	holds(100, 0)

	// It ends in the middle of an update of the owner's, which is taken back.
	squeezed(t, box, 50, 0)
	require.NoError(t, box.UpdateNetwork(deadline(t), "", netns.Bandwidth{Egress: netns.BitsPerSecond(20e6)}))
	holds(20, 0)
	require.NoError(t, h.Close())
	forgetLast(t, cfg, "web", 1)
	again()
	holds(50, 0)
	pass(time.Minute)
	holds(100, 0)
	require.NoError(t, h.Destroy(deadline(t), "web"))
	require.NoError(t, h.Remove(deadline(t)))
	require.NoError(t, h.Close())
}

// childFlood sends all it can to an address.
func childFlood(args []string) int {
	c, err := net.Dial("tcp", args[0])
	for block := make([]byte, 64<<10); err == nil; {
		_, err = c.Write(block)
	}
	return 1
}

// TestControllerKeepsNetworkFree has best effort fill a link of 16 Mbit/s, which the
// controller finds out from the queue, and frees for a service.
func TestControllerKeepsNetworkFree(t *testing.T) {
	cfg, machine := networked(t)
	outside := nettest.Machine(t)
	nettest.Cable(t, "up0", machine, outside)
	nettest.Up(t, machine, "up0", "198.51.100.1/30")
	nettest.Up(t, outside, "up0", "198.51.100.2/30")
	nettest.Forward(t, machine)
	const rate = 2e6 // bytes a second
	require.NoError(t, namespaces.Do(func() error {
		l, err := netlink.LinkByName("up0")
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: rate / 4, Buffer: uint32(128 << 10 * 1e9 / 64 / rate),
		})
	}, machine))
	var sink net.Listener
	require.NoError(t, namespaces.Do(func() (err error) {
		if sink, err = net.Listen("tcp", "198.51.100.2:9"); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(198, 51, 100, 1)})
	}, outside))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := sink.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	defer func() { <-ended }()
	defer sink.Close()

	cfg.Uplink = isolation.Uplink{Link: "up0"}
	h := openWith(t, cfg)
	job := routed(t, "job")
	job.Process, job.Class = program(t, "flood", "198.51.100.2:9"), elastic.BestEffort
	job.Network.Interfaces[0].Bandwidth = netns.Bandwidth{}
	batch := create(t, h, job)
	require.NoError(t, batch.Start(deadline(t)))
	web := spec(t, "web", "wait")
	web.Class = elastic.LatencyCritical
	service := started(t, h, web)

	var made []elastic.Decision
	ctl, err := elastic.New(h, elastic.Config{
		Policies: []elastic.Policy{&elastic.NetworkGuard{}}, OnDecision: func(d elastic.Decision) { made = append(made, d) },
	})
	require.NoError(t, err)
	until := func(what string, holds func() bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			require.NoError(t, ctl.Step(deadline(t)))
			return holds()
		}, testutil.Patience(10*time.Second), 100*time.Millisecond, what)
	}
	limit := func() float64 {
		var st elastic.NetworkStats
		require.NoError(t, batch.MeasureNetwork(&st))
		return st.Links[0].EgressMax
	}
	until("packets wait, and it is limited to less than the link carries", func() bool { v := limit(); return v > 0 && v < 8*rate })
	require.NotEmpty(t, made)
	assert.Equal(t, elastic.Made, made[0].State, "%v", made[0])
	assert.Contains(t, made[0].Reason, "up0")
	until("what was expected came true", func() bool {
		return slices.ContainsFunc(made, func(d elastic.Decision) bool { return d.State == elastic.CameTrue })
	})
	egress, _ := rates(t, cfg, batch)
	assert.InDelta(t, limit(), egress, 8)

	require.NoError(t, service.Destroy(deadline(t)))
	until("there is nobody to protect", func() bool { return limit() == 0 })
	require.NoError(t, batch.Kill(deadline(t)))
}

// Of several interfaces all are limited, or none.
func TestSqueezeNetworkFails(t *testing.T) {
	cfg, machine := networked(t)
	h := openWith(t, cfg)
	nettest.Bridge(t, machine, "br0")
	s := spec(t, "web", "wait")
	s.Network = netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{
		{Kind: netns.Veth, Bridge: "br0", Bandwidth: netns.Bandwidth{Ingress: netns.BitsPerSecond(1e8)}}, {Kind: netns.Veth, Bridge: "br0"},
	}}
	box := create(t, h, s)
	all := box.Interfaces()
	require.NoError(t, namespaces.Do(func() error { // somebody else's queue is in the way
		l, err := netlink.LinkByName(all[1].Machine)
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0x77, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1e6, Limit: 1e5, Buffer: 1e5,
		})
	}, machine))
	err := box.SqueezeNetwork(deadline(t),
		elastic.LinkLimits{Link: "eth0", Ingress: cgroups.Count(5e7)}, elastic.LinkLimits{Link: "eth1", Ingress: cgroups.Count(5e7)})
	require.ErrorIs(t, err, os.ErrExist)
	egress, ingress := rates(t, cfg, box)
	assert.Equal(t, []uint64{0, 1e8}, []uint64{egress, ingress})
	assert.Nil(t, must(box.Check(deadline(t))).Narrowed)
}
