// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func poolConfig(subnet string) PoolConfig {
	c := PoolConfig{Name: "p", Subnet: netip.MustParsePrefix(subnet)}
	if c.Subnet.Bits() <= c.Subnet.Addr().BitLen()-2 {
		c.Gateway = c.Subnet.Addr().Next()
	}
	return c
}

// clocked is a pool whose clock the test sets.
func clocked(t *testing.T, dir string, c PoolConfig) (*Pool, *time.Duration) {
	p, err := OpenPool(dir, c)
	require.NoError(t, err)
	now := new(time.Duration)
	*now = time.Hour
	p.uptime = func() (time.Duration, error) { return *now, nil }
	return p, now
}

func TestPoolAllocate(t *testing.T) {
	testutil.CheckLeaks(t)
	ctx := context.Background()
	dir := t.TempDir()
	p, now := clocked(t, dir, poolConfig("10.0.0.0/29"))
	for i, want := range []string{"10.0.0.2/29", "10.0.0.3/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"} {
		owner := fmt.Sprint("o", i)
		got, err := p.Allocate(ctx, owner, 0)
		require.NoError(t, err)
		assert.Equal(t, want, got.String())
		again, err := p.Allocate(ctx, owner, 0)
		require.NoError(t, err)
		assert.Equal(t, got, again, "the same owner has the same address")
	}
	_, err := p.Allocate(ctx, "more", 0)
	assert.ErrorIs(t, err, ErrExhausted)
	assert.EqualError(t, err, `pool "p": no free address in 10.0.0.0/29: 5 in use, 0 freed a moment ago`)

	// A freed address rests, and then the one that rested longest comes first.
	require.NoError(t, p.Release(ctx, "o3"))
	*now += time.Second
	require.NoError(t, p.Release(ctx, "o1"))
	require.NoError(t, p.Release(ctx, "o1"), "again")
	_, err = p.Allocate(ctx, "more", 0)
	var full *ExhaustedError
	require.ErrorAs(t, err, &full)
	assert.Equal(t, 2, full.Quarantined)
	*now += DefaultQuarantine - time.Second
	got, err := p.Allocate(ctx, "more", 0)
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.5/29", got.String())
	_, err = p.Allocate(ctx, "more", 1)
	assert.ErrorIs(t, err, ErrExhausted)

	// Another process finds the same.
	q, err := OpenPool(dir, poolConfig("10.0.0.0/29"))
	require.NoError(t, err)
	leases, err := q.Leases(ctx)
	require.NoError(t, err)
	assert.Equal(t, []Lease{
		{netip.MustParseAddr("10.0.0.2"), "o0", 0}, {netip.MustParseAddr("10.0.0.4"), "o2", 0},
		{netip.MustParseAddr("10.0.0.5"), "more", 0}, {netip.MustParseAddr("10.0.0.6"), "o4", 0},
	}, leases)
	_, err = OpenPool(dir, poolConfig("10.1.0.0/29"))
	assert.ErrorIs(t, err, ErrInvalid, "another subnet")
}

// Leases of an earlier boot are nobody's (fault 8).
func TestPoolAfterReboot(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "p", "00000000-0000-0000-0000-000000000000")
	require.NoError(t, os.MkdirAll(old, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(old, "10.0.0.2@web@0"), nil, 0o600))
	p, err := OpenPool(dir, poolConfig("10.0.0.0/29"))
	require.NoError(t, err)
	assert.NoDirExists(t, old)
	got, err := p.Allocate(context.Background(), "other", 0)
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.2/29", got.String())
}

// What a failed write would leave elsewhere, an empty file, is a whole lease
// here; a file that is none is reported, and nothing is given over it (fault 18).
func TestPoolForeignFile(t *testing.T) {
	ctx := context.Background()
	p, err := OpenPool(t.TempDir(), poolConfig("10.0.0.0/29"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "10.0.0.2"), nil, 0o600))
	_, err = p.Allocate(ctx, "web", 0)
	assert.ErrorIs(t, err, ErrInvalid)
	assert.ErrorContains(t, err, p.dir)
}

func TestPoolFamilies(t *testing.T) {
	ctx := context.Background()
	reserved := poolConfig("fd00:1::/64")
	reserved.Reserved = []netip.Prefix{netip.MustParsePrefix("fd00:1::/96")}
	for want, c := range map[string]PoolConfig{
		"10.0.0.1/32": poolConfig("10.0.0.1/32"), "10.0.0.0/31": poolConfig("10.0.0.0/31"),
		"fd00::2/64": poolConfig("fd00::/64"), "fd00:1::1:0:0/64": reserved,
	} {
		require.NoError(t, c.Validate())
		p, err := OpenPool(t.TempDir(), c)
		require.NoError(t, err)
		got, err := p.Allocate(ctx, "web", 0)
		require.NoError(t, err)
		assert.Equal(t, want, got.String())
	}
}

func TestPoolInvalid(t *testing.T) {
	for _, bad := range []PoolConfig{
		{}, {Name: "p"}, poolConfig("10.0.0.0/31"), {Name: "../p", Subnet: netip.MustParsePrefix("10.0.0.0/24")},
		{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.1/24")}, {Name: "p", Subnet: netip.MustParsePrefix("0.0.0.0/0")},
		{Name: "p", Subnet: netip.MustParsePrefix("127.0.0.0/8")}, {Name: "p", Subnet: netip.MustParsePrefix("::ffff:10.0.0.0/120")},
		{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
		{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Reserved: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}},
		{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Quarantine: -1},
		{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Link: "a/b"},
	} {
		if bad.Subnet.Bits() == 31 {
			bad.Gateway = bad.Subnet.Addr()
		}
		_, err := OpenPool(t.TempDir(), bad)
		assert.ErrorIs(t, err, ErrInvalid, "%+v", bad)
	}
	p, err := OpenPool(t.TempDir(), poolConfig("10.0.0.0/29"))
	require.NoError(t, err)
	for _, owner := range []string{"", "a/b", "a@b", ".", "..", "-a", "a\x00"} {
		_, err := p.Allocate(context.Background(), owner, 0)
		assert.ErrorIs(t, err, ErrInvalid)
		assert.ErrorIs(t, p.Release(context.Background(), owner), ErrInvalid)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Allocate(ended, "web", 0)
	assert.ErrorIs(t, err, context.Canceled)
}

// Of many at once, no two get the same address, in two pools on one directory.
func TestPoolConcurrent(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Prefix]string{}
	for w := range 4 {
		p, err := OpenPool(dir, poolConfig("10.0.0.0/25"))
		require.NoError(t, err)
		wg.Go(func() {
			for i := range 40 {
				owner := fmt.Sprintf("o%d-%d", w, i)
				got, err := p.Allocate(ctx, owner, 0)
				if errors.Is(err, ErrExhausted) {
					continue
				}
				assert.NoError(t, err)
				mu.Lock()
				assert.Empty(t, seen[got])
				seen[got] = owner
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.Len(t, seen, 125)
}

func FuzzParseEntry(f *testing.F) {
	for _, s := range []string{"10.0.0.7@web-1@0", "10.0.0.7@@123456", "fd00::2@a@1", "@@", "::ffff:1.2.3.4@a@0", "10.0.0.7@a@00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		e, err := parseEntry(name)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, e)
			return
		}
		require.Equal(t, name, e.name())
		require.True(t, e.Addr.IsValid())
	})
}

func BenchmarkPool(b *testing.B) {
	ctx := context.Background()
	p, err := OpenPool(b.TempDir(), poolConfig("10.0.0.0/16"))
	require.NoError(b, err)
	for i := range 1000 {
		_, err := p.Allocate(ctx, fmt.Sprint("o", i), 0)
		require.NoError(b, err)
	}
	for b.Loop() {
		if _, err := p.Allocate(ctx, "web", 0); err != nil {
			b.Fatal(err)
		}
	}
}
