// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// stream keeps one TCP connection busy, from the sandbox to the machine or the
// other way, until the test ends. broken tells when it ends before.
func stream(t *testing.T, from, to *namespaces.Handle, addr string) (broken <-chan error) {
	var server net.Listener
	require.NoError(t, namespaces.Do(func() (err error) {
		server, err = net.Listen("tcp", addr)
		return err
	}, to))
	ended, done := make(chan error, 2), make(chan struct{})
	accepted, served := make(chan net.Conn, 1), make(chan struct{})
	go func() {
		defer close(served)
		c, err := server.Accept()
		if err == nil {
			accepted <- c
			_, err = io.Copy(io.Discard, c)
			_ = c.Close()
		}
		ended <- err
	}()
	var client net.Conn
	require.NoError(t, namespaces.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", addr, testutil.Patience(5*time.Second))
		return err
	}, from))
	go func() {
		defer close(done)
		block := make([]byte, 32<<10)
		for {
			if _, err := client.Write(block); err != nil {
				ended <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = client.Close()
		<-done
		_ = server.Close()
		select {
		case c := <-accepted: // what is still queued, and the end behind it, may never come
			_ = c.Close()
		default:
		}
		<-served
	})
	return ended
}

// rateOf measures what passes for a while, in bits a second on the link. A
// machine that is busy elsewhere lets less pass, never more, so that it measures
// a few times more while it sees less than least.
func rateOf(count func() uint64, during time.Duration, least float64) (rate float64) {
	for range 10 {
		time.Sleep(during / 3) // the burst of the beginning is over
		begun, before := time.Now(), count()
		time.Sleep(during)
		rate = float64(count()-before) * 8 / time.Since(begun).Seconds()
		if rate >= least {
			break
		}
	}
	return rate
}

// Both directions keep the rate that was asked for within a tenth, and a change
// takes hold on a connection that lives on. No ifb is made for it, so none can be
// missing (fault 53).
func TestRates(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	first, second, tolerance, during := uint64(40e6), uint64(120e6), 0.1, 300*time.Millisecond
	if testutil.Emulated() {
		first, second, tolerance, during = 8e6, 16e6, 0.3, 900*time.Millisecond
	}
	for _, direction := range []string{"ingress", "egress"} {
		t.Run(direction, func(t *testing.T) {
			limit := func(l Limit) Bandwidth {
				if direction == "ingress" {
					return Bandwidth{Ingress: l}
				}
				return Bandwidth{Egress: l}
			}
			spec := bridged()
			spec.Interfaces[0].Bandwidth = limit(BitsPerSecond(first))
			a, err := l.Create(l.ctx, direction, spec)
			if errors.Is(err, ErrNotSupported) {
				testutil.Skip(t, "tbf", "%v", err)
			}
			require.NoError(t, err)
			defer a.Close()
			from, to, addr := l.machine, a.Namespace(), at(a.Addrs()[0].Addr(), 5001)
			if direction == "egress" {
				from, to, addr = to, from, "10.7.0.1:5001"
			}
			var earlier InterfaceStats
			require.NoError(t, a.Stat("", &earlier))
			begun := time.Now()
			broken := stream(t, from, to, addr)
			count := func() uint64 {
				var st LinkStats
				require.NoError(t, a.Inside().Stats("eth0", &st))
				if direction == "ingress" {
					return st.RxBytes
				}
				return st.TxBytes
			}
			for _, want := range []uint64{first, second, first} {
				require.NoError(t, a.SetBandwidth(l.ctx, "", limit(BitsPerSecond(want))))
				got := rateOf(count, during, float64(want)*(1-tolerance))
				assert.InEpsilon(t, float64(want), got, tolerance)
				t.Logf("asked for %d Mbit/s, measured %.1f", want/1e6, got/1e6)
			}
			// The queue tells that more was wanted.
			var now InterfaceStats
			require.NoError(t, a.Stat("", &now))
			congested := now.Ingress.Since(earlier.Ingress, time.Since(begun))
			if direction == "egress" {
				congested = now.Egress.Since(earlier.Egress, time.Since(begun))
			}
			assert.Positive(t, congested.Limited)
			var tcp TCPStats
			require.NoError(t, a.Inside().TCP(&tcp))
			assert.Greater(t, tcp.Sent+tcp.Received, uint64(20))
			var queue Queue
			require.NoError(t, a.Inside().Queue("eth0", &queue))
			if direction == "egress" {
				assert.GreaterOrEqual(t, queue.Packets, now.Egress.Packets, "the same one, later")
			} else {
				assert.Zero(t, queue, "it has none in this direction")
			}
			assert.Greater(t, congested.Rate, float64(first)/2)
			require.NoError(t, a.SetBandwidth(l.ctx, "", limit(Unlimited())))
			free := 1.5 * float64(first)
			assert.Greater(t, rateOf(count, 100*time.Millisecond, free), free)
			select {
			case err := <-broken:
				t.Errorf("the connection ended: %v", err)
			default:
			}
			for _, h := range []*Handle{l.Machine(), a.Inside()} {
				links, err := h.Links(l.ctx)
				require.NoError(t, err)
				for _, link := range links {
					assert.NotEqual(t, "ifb", link.Kind)
				}
			}
		})
	}
}

func TestSetBandwidth(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	a := l.create("web", bridged())
	got, err := a.Bandwidth(l.ctx, "")
	require.NoError(t, err)
	assert.Equal(t, Bandwidth{Egress: Unlimited(), Ingress: Unlimited(), Priority: DefaultPriority()}, got)
	for _, b := range []Bandwidth{
		{Egress: BitsPerSecond(1e6), Ingress: BitsPerSecond(2e6)},
		{Egress: BitsPerSecond(10e9), Ingress: BitsPerSecond(100e9).WithBurst(1 << 20)},
		{Egress: BitsPerSecond(minRate), Ingress: BitsPerSecond(123_456_789).WithBurst(200_000)},
		{Egress: Unlimited(), Ingress: Unlimited()},
	} {
		err := a.SetBandwidth(l.ctx, "eth0", b)
		if errors.Is(err, ErrNotSupported) {
			testutil.Skip(t, "tbf", "%v", err)
		}
		require.NoError(t, err)
		require.NoError(t, a.SetBandwidth(l.ctx, "eth0", b), "again")
		got, err := a.Bandwidth(l.ctx, "")
		require.NoError(t, err)
		for _, pair := range [][2]Limit{{b.Egress, got.Egress}, {b.Ingress, got.Ingress}} {
			want, limited := pair[0].Rate()
			rate, is := pair[1].Rate()
			assert.Equal(t, limited, is)
			assert.Equal(t, want/8, rate/8)
			if limited {
				assert.InEpsilon(t, pair[0].Burst(), pair[1].Burst(), 0.01)
			}
		}
	}
	// A burst becomes small on a slow link, and is none when the limit is lifted.
	for _, c := range []struct {
		l     Limit
		burst uint64
	}{{BitsPerSecond(1e9), 1_250_000}, {BitsPerSecond(40e6), 20_000}, {BitsPerSecond(1e6), slowBurst}, {BitsPerSecond(100e6), 50_000}} {
		require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: c.l}))
		q, err := rootQueue(a.Inside().socket, a.plugs[0].insideIndex)
		require.NoError(t, err)
		assert.InEpsilon(t, c.burst, burstOf(q.(*netlink.Tbf)), 0.01, c.l)
	}
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: Unlimited()}))
	var q Queue
	require.NoError(t, a.Inside().Queue("eth0", &q), "one that was lifted")
	assert.ErrorIs(t, a.Inside().Queue("eth9", &q), os.ErrNotExist)
	assert.ErrorIs(t, a.Inside().Queue("", &q), ErrInvalid)
	var tcp TCPStats
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = a.Inside().TCP(&tcp); _ = a.Inside().Queue("eth0", &q) }))

	// What is not named stays.
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(1e6)}))
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Ingress: BitsPerSecond(3e6)}))
	got, err = a.Bandwidth(l.ctx, "")
	require.NoError(t, err)
	assert.Equal(t, Bandwidth{Egress: BitsPerSecond(1e6), Ingress: BitsPerSecond(3e6), Priority: DefaultPriority()}, got)

	assert.ErrorIs(t, a.SetBandwidth(l.ctx, "eth9", Bandwidth{Egress: Unlimited()}), os.ErrNotExist)
	assert.ErrorIs(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(1)}), ErrInvalid)
	ended, cancel := context.WithCancel(l.ctx)
	cancel()
	assert.ErrorIs(t, a.SetBandwidth(ended, "", Bandwidth{Egress: Unlimited()}), context.Canceled)
}

// A queue that was there already is somebody's and stays, and so does the other
// direction's limit (fault 53).
func TestForeignQueue(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	a := l.create("web", bridged())
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Ingress: BitsPerSecond(5e6)}))
	theirs := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: a.plugs[0].insideIndex, Handle: netlink.MakeHandle(0x77, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 1e6, Limit: 1e5, Buffer: 1e5}
	require.NoError(t, a.Inside().socket.QdiscAdd(theirs))
	err := a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(1e6), Ingress: BitsPerSecond(6e6)})
	assert.ErrorIs(t, err, os.ErrExist)
	assert.ErrorContains(t, err, "a queue of kind tbf, 77:0")
	got, err := a.Bandwidth(l.ctx, "")
	require.NoError(t, err)
	assert.Equal(t, Bandwidth{Egress: Unlimited(), Ingress: BitsPerSecond(5e6), Priority: DefaultPriority()}, got)
	require.NoError(t, a.SetBandwidth(l.ctx, "", Bandwidth{Egress: Unlimited()}))
	q, err := rootQueue(a.Inside().socket, a.plugs[0].insideIndex)
	require.NoError(t, err)
	assert.Equal(t, theirs.Handle, q.Attrs().Handle)
}
