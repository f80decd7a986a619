// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Others hold the kernel's lock on rules all the time, in a table of theirs and as
// another process with ours: every change takes place, and every list is whole
// (faults 51 and 53).
func TestBusy(t *testing.T) {
	l := newLab(t)
	theirs, err := func() (c *nftables.Conn, err error) {
		doErr := namespaces.Do(func() error {
			c, err = nftables.New(nftables.AsLasting())
			return nil
		}, l.machine)
		if err == nil {
			err = doErr
		}
		return c, err
	}()
	require.NoError(t, err)
	defer theirs.CloseLasting()
	beside, err := Open(l.ctx, l.cfg)
	require.NoError(t, err)
	defer beside.Close()
	many := netns.Rules{} // more than the kernel hands out at once
	for a := netip.MustParseAddr("fd09::1"); len(many.Addrs) < 700; a = a.Next() {
		many.Addrs = append(many.Addrs, a)
	}
	require.NoError(t, l.firewall.Set(l.ctx, "many", many))
	one := netns.Rules{Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}, Ports: []netns.Port{{Host: 8080}}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	// As often as a list can take: one that never finds an end is an error.
	pause := 3 * time.Millisecond
	if testutil.Emulated() {
		pause = 300 * time.Millisecond
	}
	repeat := func(f func()) {
		wg.Go(func() {
			again := time.NewTicker(pause)
			defer again.Stop()
			for {
				select {
				case <-stop:
					return
				case <-again.C:
					f()
				}
			}
		})
	}
	repeat(func() {
		table := theirs.AddTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})
		assert.NoError(t, theirs.Flush())
		theirs.DelTable(table)
		assert.NoError(t, theirs.Flush())
	})
	repeat(func() {
		assert.NoError(t, beside.Set(l.ctx, "beside", netns.Rules{Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.2")}}))
		assert.NoError(t, beside.Remove(l.ctx, "beside"))
	})
	rounds := 40
	if testutil.Emulated() {
		rounds = 5
	}
	interrupted := 0
	for range rounds {
		require.NoError(t, l.firewall.Set(l.ctx, "one", one))
		owners, err := l.firewall.Owners(l.ctx)
		require.NoError(t, err)
		assert.Subset(t, owners, []string{"many", "one"})
		before, err := l.firewall.generation()
		require.NoError(t, err)
		list, err := l.firewall.conn.GetSetElements(l.firewall.sets[addrs6])
		require.NoError(t, err)
		if after, err := l.firewall.generation(); err == nil && after != before {
			interrupted++ // and perhaps not whole
		} else {
			assert.Len(t, list, len(many.Addrs))
		}
		require.NoError(t, l.firewall.Remove(l.ctx, "one"))
	}
	close(stop)
	wg.Wait()
	t.Logf("of %d lists, %d were interrupted when read once", rounds, interrupted)
	require.NoError(t, l.firewall.Remove(l.ctx, "many"))
	owners, err := l.firewall.Owners(l.ctx)
	require.NoError(t, err)
	assert.Empty(t, owners)
}

func FuzzParseGeneration(f *testing.F) {
	answer := func(t testing.TB, gen uint32) []byte {
		b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: genID, Data: binary.BigEndian.AppendUint32(nil, gen)}})
		require.NoError(t, err)
		return append(make([]byte, nfgenmsgSize), b...)
	}
	f.Add(answer(f, 7))
	f.Add([]byte{0, 0, 0, 0, 5, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		gen, ok := parseGeneration(b)
		if !ok {
			require.Zero(t, gen)
			return
		}
		again, ok := parseGeneration(answer(t, gen))
		require.True(t, ok)
		require.Equal(t, gen, again)
	})
}
