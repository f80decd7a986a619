// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func shaper(t *testing.T, l *lab, rate uint64) *Shaper {
	s, err := OpenShaper(l.ctx, l.Machine(), ShaperConfig{Link: "br0", Rate: BitsPerSecond(rate), Direction: ToSandboxes})
	if errors.Is(err, ErrNotSupported) {
		testutil.Skip(t, "htb", "%v", err)
	}
	require.NoError(t, err)
	return s
}

// classOf is a class of everything for one sandbox.
func classOf(id uint16, a *Attachment, rate uint64) Class {
	c := Class{ID: id, Rate: BitsPerSecond(rate)}
	for _, p := range a.Addrs() {
		c.Match = append(c.Match, single(p.Addr()))
	}
	return c
}

// Two sandboxes share a link: the rate that one is guaranteed holds against the
// other, and what it leaves is lent. Changed while both are busy.
func TestShaperShares(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	whole, tolerance, during := uint64(60e6), 0.15, 300*time.Millisecond
	if testutil.Emulated() {
		whole, tolerance, during = 12e6, 0.35, 900*time.Millisecond
	}
	s := shaper(t, l, whole)
	a, b := l.create("a", bridged()), l.create("b", bridged())
	require.NoError(t, s.Set(l.ctx, classOf(2, a, whole/4)))
	require.NoError(t, s.Set(l.ctx, classOf(3, b, whole*3/4)))
	received := func(of *Attachment) func() uint64 {
		return func() uint64 {
			var st LinkStats
			require.NoError(t, of.Inside().Stats("eth0", &st))
			return st.RxBytes
		}
	}
	brokenA := stream(t, l.machine, a.Namespace(), at(a.Addrs()[0].Addr(), 5001))
	assert.InEpsilon(t, whole, rateOf(received(a), during, float64(whole)*(1-tolerance)), tolerance, "alone, it borrows everything")
	brokenB := stream(t, l.machine, b.Namespace(), at(b.Addrs()[0].Addr(), 5001))
	// Where one sender gets no processor for a while, the other borrows.
	share := func(wantA, wantB float64) {
		near := func(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*want }
		var gotA, gotB float64
		for range 10 {
			before := received(b)()
			begun := time.Now()
			gotA = rateOf(received(a), during, 0)
			gotB = float64(received(b)()-before) * 8 / time.Since(begun).Seconds()
			if near(gotA, wantA, 2*tolerance) && near(gotB, wantB, 2*tolerance) {
				return
			}
		}
		t.Errorf("want %.1f and %.1f Mbit/s, measured %.1f and %.1f", wantA/1e6, wantB/1e6, gotA/1e6, gotB/1e6)
	}
	quarter, most := float64(whole/4), float64(whole*3/4)
	share(quarter, most)
	require.NoError(t, s.Set(l.ctx, classOf(3, b, whole/4)))
	require.NoError(t, s.Set(l.ctx, classOf(2, a, whole*3/4)))
	share(most, quarter)
	var q Queue
	require.NoError(t, s.Stat(2, &q))
	assert.Positive(t, q.Bytes)
	assert.Positive(t, q.Overlimits)
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = s.Stat(2, &q) }))
	for _, broken := range []<-chan error{brokenA, brokenB} {
		select {
		case err := <-broken:
			t.Errorf("a connection ended: %v", err)
		default:
		}
	}
}

func TestShaperChanges(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	s := shaper(t, l, 1e9)
	a := l.create("a", bridged())
	c := classOf(2, a, 1e6)
	c.Ceil, c.Priority = BitsPerSecond(5e8), 3
	require.NoError(t, s.Set(l.ctx, c))
	require.NoError(t, s.Set(l.ctx, c), "again")
	count := func() int {
		have, err := s.filters(s.h.socket, 2)
		require.NoError(t, err)
		return len(have)
	}
	assert.Equal(t, 2, count())
	c.Match = append(c.Match[:1:1], netip.MustParsePrefix("10.7.0.128/25"))
	require.NoError(t, s.Set(l.ctx, c))
	assert.Equal(t, 2, count())
	serve(t, a, "a")
	reach(t, "machine", l.machine, a, "a")
	var q Queue
	require.NoError(t, s.Stat(2, &q))
	assert.Positive(t, q.Packets)

	// A later process takes it over, with another rate.
	again, err := OpenShaper(l.ctx, l.Machine(), ShaperConfig{Link: "br0", Rate: BitsPerSecond(2e9), Direction: ToSandboxes})
	require.NoError(t, err)
	require.NoError(t, again.Stat(2, &q))
	assert.Positive(t, q.Packets)
	require.NoError(t, again.Remove(l.ctx, 2))
	require.NoError(t, again.Remove(l.ctx, 2), "again")
	assert.Zero(t, count())
	reach(t, "machine", l.machine, a, "a")

	for _, bad := range []Class{{ID: 1, Rate: BitsPerSecond(1e6)}, {ID: 2}, {ID: 2, Rate: BitsPerSecond(1e6), Ceil: BitsPerSecond(1e5)},
		{ID: 2, Rate: BitsPerSecond(1e6), Priority: 8}, {ID: 2, Rate: BitsPerSecond(1e6), Match: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}} {
		assert.ErrorIs(t, s.Set(l.ctx, bad), ErrInvalid)
	}
	assert.ErrorIs(t, s.Remove(l.ctx, 1), ErrInvalid)
	_, err = OpenShaper(l.ctx, l.Machine(), ShaperConfig{Link: "eth9", Rate: BitsPerSecond(1e9)})
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenShaper(l.ctx, l.Machine(), ShaperConfig{Link: "br0"})
	assert.ErrorIs(t, err, ErrInvalid)
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Ingress: BitsPerSecond(1e9)}))
	_, err = OpenShaper(l.ctx, l.Machine(), ShaperConfig{Link: a.Interfaces()[0].Machine, Rate: BitsPerSecond(1e9)})
	assert.ErrorIs(t, err, os.ErrExist)
	require.NoError(t, s.Delete(l.ctx))
	require.NoError(t, s.Delete(l.ctx), "again")
	left, err := rootQueue(s.h.socket, s.index)
	require.NoError(t, err)
	assert.True(t, left == nil || left.Attrs().Handle != shapeHandle)
}
