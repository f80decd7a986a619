// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"net/netip"
	"strings"
	"testing"

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

// priorityOf is the priority of what a sandbox sends, as the names of the filters at the
// machine's end of its link say.
func priorityOf(t *testing.T, machine *namespaces.Handle, box *isolation.Sandbox) (is string) {
	t.Helper()
	require.NoError(t, namespaces.Do(func() error {
		link, err := netlink.LinkByName(box.Interfaces()[0].Machine)
		if err != nil {
			return err
		}
		all, err := netlink.FilterList(link, netlink.HANDLE_MIN_INGRESS)
		for _, f := range all {
			name, ours := strings.CutPrefix(f.(*netlink.BpfFilter).Name, "caisson priority ")
			assert.True(t, ours)
			is += name
		}
		return err
	}, machine))
	return is
}

// The packets of a sandbox go by its class, until its owner says otherwise; the next
// agent keeps that, and takes a change back that was cut off.
func TestNetworkPriority(t *testing.T) {
	cfg, machine := networked(t)
	nettest.Bridge(t, machine, "br0", "10.9.0.1/24")
	h := must(isolation.Open(deadline(t), cfg))
	bridged := func(id string, class elastic.Class, addr string) *isolation.Sandbox {
		s := spec(t, id, "wait")
		s.Class = class
		s.Network = netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
			Kind: netns.Veth, Bridge: "br0", Addrs: []netip.Prefix{netip.MustParsePrefix(addr)},
		}}}
		return create(t, h, s)
	}
	set := func(box *isolation.Sandbox, p netns.Priority) {
		t.Helper()
		require.NoError(t, box.UpdateNetwork(deadline(t), "", netns.Bandwidth{Priority: p}))
	}
	job := bridged("job", elastic.BestEffort, "10.9.0.2/24")
	st := must(job.Check(deadline(t)))
	for _, lack := range st.Missing {
		if strings.Contains(lack, "bpf filter") || strings.Contains(lack, "clsact") {
			testutil.Skip(t, "cls_bpf", "%v", lack)
		}
	}
	assert.Equal(t, "2", priorityOf(t, machine, job))
	assert.Empty(t, job.Spec().Network.Interfaces[0].Bandwidth.Priority, "the spec is as it was asked for")
	assert.Equal(t, "", priorityOf(t, machine, bridged("standard", elastic.Standard, "10.9.0.3/24")))
	web := bridged("web", elastic.LatencyCritical, "10.9.0.4/24")
	assert.Equal(t, "6", priorityOf(t, machine, web))
	set(web, netns.DefaultPriority())
	assert.Equal(t, "", priorityOf(t, machine, web))
	require.NoError(t, job.UpdateNetwork(deadline(t), "", netns.Bandwidth{}), "nothing")
	set(job, netns.PriorityOf(7))
	assert.Equal(t, "7", priorityOf(t, machine, job))
	assert.Equal(t, netns.PriorityOf(7), job.Spec().Network.Interfaces[0].Bandwidth.Priority)
	assert.ErrorIs(t, job.UpdateNetwork(deadline(t), "", netns.Bandwidth{Priority: netns.PriorityOf(16)}), isolation.ErrInvalid)

	require.NoError(t, h.Close())
	forgetLast(t, cfg, "job", 1)
	h = openWith(t, cfg)
	job, web = must(h.Sandbox(deadline(t), "job")), must(h.Sandbox(deadline(t), "web"))
	assert.Equal(t, "2", priorityOf(t, machine, job), "taken back")
	assert.Equal(t, "", priorityOf(t, machine, web), "kept")
}

// Where the machine forwards IPv4 and no firewall sets the priority again, a class goes
// without one, and says so; who asks for it is refused.
func TestNetworkPriorityMissing(t *testing.T) {
	cfg, machine := networked(t)
	h := openWith(t, cfg)
	s := routed(t, "job")
	s.Class = elastic.BestEffort
	job := create(t, h, s)
	assert.Equal(t, "", priorityOf(t, machine, job))
	assert.Contains(t, strings.Join(must(job.Check(deadline(t))).Missing, "\n"), "class best-effort: priority of a routed interface")
	assert.ErrorIs(t, job.UpdateNetwork(deadline(t), "", netns.Bandwidth{Priority: netns.PriorityOf(2)}), isolation.ErrNotSupported)
	require.NoError(t, job.UpdateNetwork(deadline(t), "", netns.Bandwidth{Priority: netns.DefaultPriority()}))
	s = routed(t, "other")
	s.Network.Interfaces[0].Bandwidth.Priority = netns.PriorityOf(2)
	_, err := h.Create(deadline(t), s)
	assert.ErrorIs(t, err, isolation.ErrNotSupported)
}
