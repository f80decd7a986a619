// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/bpf"
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

	lost := bridged("lost", elastic.BestEffort, "10.9.0.5/24")
	require.NoError(t, namespaces.Do(func() error {
		link, err := netlink.LinkByName(lost.Interfaces()[0].Machine)
		if err != nil {
			return err
		}
		return netlink.QdiscDel(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	}, machine))
	assert.Equal(t, "", priorityOf(t, machine, lost))

	require.NoError(t, h.Close())
	forgetLast(t, cfg, "job", 1)
	h = openWith(t, cfg)
	job, web = must(h.Sandbox(deadline(t), "job")), must(h.Sandbox(deadline(t), "web"))
	assert.Equal(t, "2", priorityOf(t, machine, must(h.Sandbox(deadline(t), "lost"))), "set again")
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

// What leaves by the machine's own network goes by class, too.
func TestEgressPriority(t *testing.T) {
	testutil.Require(t, testutil.SocketGroups)
	cfg, machine := networked(t)
	other := nettest.Machine(t)
	nettest.Cable(t, "up0", machine, other)
	nettest.Up(t, machine, "up0", "192.0.2.9/24")
	nettest.Up(t, other, "up0", "192.0.2.10/24")
	counted := classify(t, machine, "up0")
	h := openWith(t, cfg)
	for _, class := range []elastic.Class{elastic.Standard, elastic.LatencyCritical, elastic.BestEffort} {
		s := spec(t, "job", "serve", "/nowhere")
		s.Class = class
		s.Network = netns.Spec{Mode: netns.ModeJoin, Join: cfg.NetworkNamespace}
		job := started(t, h, s)
		for _, lack := range must(job.Check(deadline(t))).Missing {
			if strings.Contains(lack, "egress priority") {
				testutil.Skip(t, "cls_bpf", "%v", lack)
			}
		}
		before := counted()
		ask(t, other, netip.MustParseAddr("192.0.2.9"))
		after := counted()
		n, _ := class.NetworkPriority()
		for _, priority := range []uint8{0, 2, 6} {
			assert.Equal(t, priority == n, after[priority] > before[priority], "%s: packets of priority %d", class, priority)
		}
		require.NoError(t, job.Destroy(deadline(t)))
	}
}

// classify gives a link a queue with a class for each priority, and returns what counts
// their packets.
func classify(t *testing.T, machine *namespaces.Handle, name string) func() map[uint8]uint32 {
	t.Helper()
	var link netlink.Link
	require.NoError(t, namespaces.Do(func() (err error) {
		if link, err = netlink.LinkByName(name); err != nil {
			return err
		}
		index, root := link.Attrs().Index, netlink.MakeHandle(1, 0)
		err = netlink.QdiscAdd(netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: root, Parent: netlink.HANDLE_ROOT}))
		for _, minor := range []uint16{1, 3, 7} {
			if err == nil {
				err = netlink.ClassAdd(netlink.NewHtbClass(netlink.ClassAttrs{LinkIndex: index, Parent: root, Handle: netlink.MakeHandle(1, minor)},
					netlink.HtbClassAttrs{Rate: 1e9}))
			}
		}
		if err != nil {
			return err
		}
		// Of struct __sk_buff, the class becomes 1:PRIORITY+1.
		const priority, tcClass, addImm = 32, 72, 0x07
		p, err := bpf.Load(bpf.Filter, "cais_test", slices.Concat(
			bpf.Insn(bpf.LoadWord, 2, 1, priority, 0), bpf.Insn(addImm, 2, 0, 0, 1), bpf.Insn(bpf.StoreWord, 1, 2, tcClass, 0),
			bpf.Insn(bpf.MoveImm, 0, 0, 0, 0), bpf.Insn(bpf.Exit, 0, 0, 0, 0)))
		if err != nil {
			return err
		}
		defer p.Close()
		return netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: root, Priority: 1,
			Protocol: syscall.ETH_P_ALL}, ClassId: root, Fd: p.FD(), Name: "cais_test", DirectAction: true})
	}, machine))
	return func() map[uint8]uint32 {
		t.Helper()
		counts := map[uint8]uint32{}
		require.NoError(t, namespaces.Do(func() error {
			all, err := netlink.ClassList(link, netlink.HANDLE_NONE)
			for _, c := range all {
				_, minor := netlink.MajorMinor(c.Attrs().Handle)
				counts[uint8(minor-1)] = c.Attrs().Statistics.Basic.Packets
			}
			return err
		}, machine))
		return counts
	}
}
