// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// A priority is set, changed, found again and taken away, at either end; what it does
// to packets is a test of nft.
func TestSetPriority(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Warm = 1 })
	l.bridge()
	holds := func(a *Attachment, want Priority) {
		t.Helper()
		got, err := a.Bandwidth(l.ctx, "")
		require.NoError(t, err)
		assert.Equal(t, want, got.Priority)
	}
	a := l.create("web", bridged())
	holds(a, DefaultPriority())
	err := a.SetBandwidth(l.ctx, "", Bandwidth{Priority: PriorityOf(2)})
	if errors.Is(err, ErrNotSupported) {
		testutil.Skip(t, "cls_bpf", "%v", err)
	}
	require.NoError(t, err)
	for _, p := range []Priority{PriorityOf(2), PriorityOf(0), PriorityClass(0xca15, 7), DefaultPriority(), DefaultPriority(), PriorityOf(6)} {
		require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Priority: p, Egress: BitsPerSecond(1e9)}))
		holds(a, p)
	}
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Ingress: BitsPerSecond(1e9)}))
	holds(a, PriorityOf(6)) // what is not named stays
	assert.ErrorIs(t, a.SetBandwidth(l.ctx, "", Bandwidth{Priority: PriorityOf(16)}), ErrInvalid)
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: Unlimited(), Ingress: Unlimited()}))

	// One that was ready for another; who finds it later finds what holds.
	spec := bridged()
	for owner, p := range map[string]Priority{"batch": PriorityOf(2), "more": PriorityOf(2), "plain": {}} {
		spec.Interfaces[0].Bandwidth.Priority = p
		b := l.create(owner, spec)
		if p.IsZero() {
			p = DefaultPriority()
		}
		holds(b, p)
		require.NoError(t, b.SetBandwidth(l.ctx, "", Bandwidth{Priority: PriorityOf(6)}))
		again, err := l.Open(l.ctx, owner, spec)
		require.NoError(t, err)
		holds(again, PriorityOf(6))
		require.NoError(t, again.Close())
	}

	// Of other kinds inside, where what they send leaves.
	spec = Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Macvlan, Parent: "br0", Bandwidth: Bandwidth{Priority: PriorityOf(2)}}}}
	child, err := l.Create(l.ctx, "child", spec)
	if !errors.Is(err, ErrNotSupported) {
		require.NoError(t, err)
		holds(child, PriorityOf(2))
		require.NoError(t, child.Close())
	}
}

// A filter that was in the place is somebody's and stays, and so does what else was to
// be changed. A routed interface would lose its priority, as long as nobody sets it
// again.
func TestPriorityRefused(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	a := l.create("web", bridged())
	index := a.plugs[0].machineIndex
	clsact := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	s := l.Machine().socket
	if err := noKind("clsact", s.QdiscAdd(clsact)); err != nil {
		testutil.Skip(t, "cls_bpf", "%v", err)
	}
	theirs := &netlink.U32{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: priorityPref, Protocol: syscall.ETH_P_ALL}, ClassId: 1}
	require.NoError(t, s.FilterAdd(theirs))
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(5e6)}))
	err := a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(9e6), Ingress: BitsPerSecond(9e6), Priority: PriorityOf(2)})
	assert.ErrorIs(t, err, os.ErrExist)
	assert.ErrorContains(t, err, "a filter of kind u32 at 3233")
	got, err := a.Bandwidth(l.ctx, "")
	require.NoError(t, err)
	assert.Equal(t, Bandwidth{Egress: BitsPerSecond(5e6), Ingress: Unlimited(), Priority: DefaultPriority()}, got)
	left, err := s.FilterList(byIndex(index), netlink.HANDLE_MIN_INGRESS)
	require.NoError(t, err)
	assert.NotEmpty(t, left)
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Priority: DefaultPriority()}), "ours is none")

	spec := routed()
	spec.Interfaces[0].Bandwidth.Priority = PriorityOf(2)
	_, err = l.Create(l.ctx, "routed", spec)
	assert.ErrorIs(t, err, ErrNotSupported)
	spec.Interfaces[0].Pools = []string{"six"}
	b, err := l.Create(l.ctx, "six", spec)
	require.NoError(t, err, "the kernel leaves that of IPv6 alone")
	require.NoError(t, b.Close())
	assert.ErrorIs(t, l.create("free", routed()).SetBandwidth(l.ctx, "", Bandwidth{Priority: PriorityOf(2)}), ErrNotSupported)
}
