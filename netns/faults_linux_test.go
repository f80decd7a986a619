// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// links are the names of the machine's links, without the loopback device.
func (l *lab) links() []string {
	all, err := l.Machine().Links(l.ctx)
	require.NoError(l.t, err)
	var names []string
	for _, link := range all[1:] {
		names = append(names, link.Name)
	}
	return names
}

// nothing says that no trace of a sandbox is left.
func (l *lab) nothing(besides ...string) {
	l.t.Helper()
	owners, err := l.Owners(l.ctx)
	require.NoError(l.t, err)
	assert.Empty(l.t, owners)
	assert.ElementsMatch(l.t, besides, l.links())
	pins, err := l.Pins().Names("")
	require.NoError(l.t, err)
	assert.Empty(l.t, pins)
}

func TestDestroy(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	for range 3 { // the name and the addresses can be used again
		a, err := l.Create(l.ctx, "web", bridged())
		require.NoError(t, err)
		require.Len(t, l.links(), 2)
		require.NoError(t, a.Close())
		require.NoError(t, a.Close(), "twice")
		require.NoError(t, l.Destroy(l.ctx, "web"))
		l.nothing("br0")
	}
	require.NoError(t, l.Destroy(l.ctx, "web"), "again")
	require.NoError(t, l.Destroy(l.ctx, "unknown"))
	assert.ErrorIs(t, l.Destroy(l.ctx, "../web"), ErrInvalid)
}

// A namespace that somebody still holds does not keep the link.
func TestDestroyHeld(t *testing.T) {
	l := newLab(t, nil)
	l.linger = time.Second
	l.bridge()
	a := l.create("web", bridged())
	ctx, cancel := context.WithTimeout(l.ctx, 100*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, l.Destroy(ctx, "web"), context.DeadlineExceeded)
	leases, err := l.Pool("four").Leases(l.ctx)
	require.NoError(t, err)
	assert.Len(t, leases, 1, "the address is in use as long as the link is")
	require.NoError(t, l.Destroy(l.ctx, "web"))
	l.nothing("br0")
	links, err := a.Inside().Links(l.ctx)
	require.NoError(t, err)
	assert.Len(t, links, 1)
}

// The address is free once the link that had it is gone, and rests.
func TestAddressIsFreed(t *testing.T) {
	l := newLab(t, func(c *Config) {
		small := PoolConfig{Name: "four", Subnet: netip.MustParsePrefix("10.7.0.0/30"), Gateway: pool4.Gateway, Quarantine: time.Hour}
		c.Pools = []PoolConfig{small}
	})
	spec := Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Pools: []string{"four"}}}}
	a := l.create("a", spec)
	_, err := l.Create(l.ctx, "b", spec)
	assert.ErrorIs(t, err, ErrExhausted)
	assert.Len(t, l.links(), 1, "nothing is left of b")
	require.NoError(t, a.Close())
	require.NoError(t, l.Destroy(l.ctx, "a"))
	_, err = l.Create(l.ctx, "b", spec)
	var full *ExhaustedError
	require.ErrorAs(t, err, &full)
	assert.Equal(t, 1, full.Quarantined)
	l.nothing()
}

// All or nothing: whatever fails, nothing is left (faults 1 and 52).
func TestCreateFails(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	l.create("first", Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/32")}}}})
	before := l.links()
	change := func(f func(*Interface)) Spec {
		s := bridged()
		f(&s.Interfaces[0])
		return s
	}
	for name, c := range map[string]struct {
		spec Spec
		want error
	}{
		"no bridge":        {change(func(i *Interface) { i.Bridge = "br9" }), os.ErrNotExist},
		"no bridge at all": {change(func(i *Interface) { i.Bridge = before[1] }), ErrInvalid},
		"no pool":          {change(func(i *Interface) { i.Pools = []string{"nine"} }), ErrInvalid},
		"no parent":        {Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Macvlan, Parent: "eth9"}}}, os.ErrNotExist},
		"name too long":    {change(func(i *Interface) { i.Name = "sixteen--letters" }), ErrInvalid},
		"address in use": {Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Pools: []string{"four"},
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/32")}}}}, os.ErrExist},
		"unreachable gateway": {change(func(i *Interface) { i.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.9")} }), nil},
		"no such sysctl": {func() Spec {
			s := bridged()
			s.Sysctls = map[string]string{"net.ipv4.nonsense": "1"}
			return s
		}(), ErrNotSupported},
		"refused sysctl": {func() Spec {
			s := bridged()
			s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "many"}
			return s
		}(), nil},
		"ports without a firewall": {func() Spec {
			s := bridged()
			s.Ports = []Port{{Host: 80}}
			return s
		}(), ErrNotSupported},
		"second of two": {Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Bridge: "br0", Pools: []string{"four"}}, {Kind: Veth, Bridge: "br9"}}}, os.ErrNotExist},
	} {
		_, err := l.Create(l.ctx, "web", c.spec)
		require.Error(t, err, name)
		if c.want != nil {
			assert.ErrorIs(t, err, c.want, name)
		}
		assert.Equal(t, before, l.links(), name)
		owners, err := l.Owners(l.ctx)
		require.NoError(t, err)
		assert.Equal(t, []string{"first"}, owners, name)
	}
	_, err := l.Create(l.ctx, "web", Spec{Mode: ModeHost})
	assert.ErrorIs(t, err, ErrInvalid)
}

// Contexts that end at every possible moment leave nothing (fault 1).
func TestCreateCanceled(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	spec := bridged()
	spec.Interfaces[0].Bandwidth = Bandwidth{Egress: BitsPerSecond(1e8), Ingress: BitsPerSecond(1e8)}
	begun := time.Now()
	warm := l.create("warm", spec)
	whole := time.Since(begun)
	require.NoError(t, warm.Close())
	require.NoError(t, l.Destroy(l.ctx, "warm"))
	made := 0
	for i := range 20 {
		ctx, cancel := context.WithTimeout(l.ctx, whole*time.Duration(i)/8)
		a, err := l.Create(ctx, "web", spec)
		cancel()
		if err != nil {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			l.nothing("br0")
			continue
		}
		made++
		require.NoError(t, a.Close())
		require.NoError(t, l.Destroy(l.ctx, "web"))
	}
	t.Logf("%d of 20 were faster", made)
}

// A link of another owner that has our name, and one that vanishes (fault 52).
func TestNameTaken(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = l.linkName("web", 0)
	require.NoError(t, l.Machine().socket.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	_, err := l.Create(l.ctx, "web", bridged())
	assert.ErrorIs(t, err, os.ErrExist)
	l.nothing("br0", attrs.Name) // not ours to wait for, or to remove
	require.NoError(t, l.Machine().socket.LinkDel(&netlink.Bridge{LinkAttrs: attrs}))
	require.NoError(t, l.create("web", bridged()).Close())

	// The administrator deletes it.
	link, err := l.Machine().socket.LinkByName(attrs.Name)
	require.NoError(t, err)
	require.NoError(t, l.Machine().socket.LinkDel(link))
	_, err = l.Open(l.ctx, "web", bridged())
	assert.ErrorIs(t, err, os.ErrNotExist, "no longer a whole one")
	require.NoError(t, l.Destroy(l.ctx, "web"))
	l.nothing("br0")
}

// What a crash leaves behind at each step is swept; what lives is not (faults 3,
// 6, 7 and 11).
func TestSweep(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	live := l.create("live", bridged())
	// A pin without a mount, a pin without links, leases of nobody, a whole one.
	require.NoError(t, os.WriteFile(filepath.Join(l.cfg.Pins, l.pinName("file")), nil, 0))
	ns, err := l.Pins().Create(l.pinName("bare"))
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	_, err = l.Pool("four").Allocate(l.ctx, "leased", 0)
	require.NoError(t, err)
	whole := l.create("whole", bridged())
	require.NoError(t, whole.Close())
	// Somebody else's.
	require.NoError(t, os.WriteFile(filepath.Join(l.cfg.Pins, "other"), nil, 0))
	require.NoError(t, os.WriteFile(filepath.Join(l.cfg.Pins, "caisson-test2-web"), nil, 0))

	removed, err := l.Sweep(l.ctx, func(owner string) bool { return owner == "live" })
	require.NoError(t, err)
	assert.Equal(t, []string{"bare", "file", "leased", "whole"}, removed)
	owners, err := l.Owners(l.ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"live"}, owners)
	serve(t, live, "live")
	reach(t, "machine", l.machine, live, "live")
	for _, name := range []string{"other", "caisson-test2-web"} {
		assert.FileExists(t, filepath.Join(l.cfg.Pins, name))
		require.NoError(t, os.Remove(filepath.Join(l.cfg.Pins, name)))
	}
}

// A pin that was swapped for a plain file or a link is no network (faults 52
// and 54).
func TestOpenSwapped(t *testing.T) {
	l := newLab(t, nil)
	path := filepath.Join(l.cfg.Pins, l.pinName("web"))
	require.NoError(t, os.WriteFile(path, nil, 0))
	_, err := l.Open(l.ctx, "web", Spec{Mode: ModeNew})
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/proc/self/ns/net", path))
	_, err = l.Open(l.ctx, "web", Spec{Mode: ModeNew})
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = l.Open(l.ctx, "web", Spec{Mode: ModeJoin, Join: path})
	assert.ErrorIs(t, err, namespaces.ErrNotNamespace)
	_, err = l.Open(l.ctx, "web", Spec{Mode: ModeJoin, Join: "/proc/self/ns/ipc"})
	assert.Error(t, err)
	assert.ErrorIs(t, l.Destroy(l.ctx, "web"), namespaces.ErrNotNamespace, "it is not ours to remove")
	require.NoError(t, os.Remove(path))
}

// A subnet that the machine uses already is refused.
func TestOverlap(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	cfg := l.cfg
	cfg.Pools = []PoolConfig{{Name: "x", Subnet: netip.MustParsePrefix("10.0.0.0/8")}}
	_, err := OpenNetwork(l.ctx, cfg)
	var overlap *OverlapError
	require.ErrorAs(t, err, &overlap)
	assert.Equal(t, "br0", overlap.Link)
	assert.ErrorIs(t, err, ErrInvalid)
	assert.EqualError(t, overlap, `pool "x": 10.0.0.0/8 overlaps with the route to 10.7.0.0/24 over br0`)
	again, err := OpenNetwork(l.ctx, l.cfg)
	require.NoError(t, err, "its own link")
	require.NoError(t, again.Close())
	l.create("web", Spec{Mode: ModeNew, Interfaces: []Interface{{Kind: Veth, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")}}}})
	cfg.Pools = []PoolConfig{{Name: "x", Subnet: netip.MustParsePrefix("10.9.0.0/16")}}
	again, err = OpenNetwork(l.ctx, cfg)
	require.NoError(t, err, "a sandbox's own route")
	require.NoError(t, again.Close())
}

// No thread of the process is left in a wrong namespace, however many come and
// go (fault 50).
func TestThreads(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				runtime.GOMAXPROCS(1 + i%4)
				runtime.Gosched()
			}
		}
	})
	cycles(t, l, 24, 4)
	rounds := 10_000
	if testutil.Emulated() {
		rounds = 300
	}
	a := l.create("web", bridged())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range rounds / 4 {
				assert.NoError(t, namespaces.Do(func() error { return nil }, a.Namespace()))
			}
		})
	}
	wg.Wait()
	close(stop)
	churn.Wait()
	home, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	require.NoError(t, err)
	require.NotEmpty(t, tasks)
	for _, task := range tasks {
		if got, err := os.Readlink(task); err == nil { // a thread that ended has none
			assert.Equal(t, home, got, task)
		}
	}
}

// cycles creates and destroys count networks, workers of them at a time.
func cycles(t testing.TB, l *lab, count, workers int) {
	spec := bridged()
	spec.Interfaces[0].Bandwidth = Bandwidth{Egress: BitsPerSecond(1e8), Ingress: BitsPerSecond(1e8)}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range count / workers {
				owner := fmt.Sprintf("w%d-%d", w, i%5)
				a, err := l.Create(l.ctx, owner, spec)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, a.Close())
				assert.NoError(t, l.Destroy(l.ctx, owner))
			}
		})
	}
	wg.Wait()
}

// TestSoak makes and removes networks, several at a time, and finds nothing left
// of them. CAISSON_SOAK=2000 makes it as long as it has to be for a release.
func TestSoak(t *testing.T) {
	for name, warm := range map[string]int{"cold": 0, "warm": 4} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(c *Config) {
				c.Warm = warm
				for i := range c.Pools {
					c.Pools[i].Quarantine = time.Millisecond
				}
			})
			l.ctx = context.Background()
			l.bridge()
			begun := time.Now()
			count := testutil.Soak(64)
			if testutil.Emulated() {
				count = 16
			}
			cycles(t, l, count, 8)
			t.Logf("%d cycles, %.0f a second", count, float64(count)/time.Since(begun).Seconds())
			require.NoError(t, l.warm.close())
			require.Eventually(t, func() bool { return len(l.links()) == 1 }, testutil.Patience(10*time.Second), 10*time.Millisecond,
				"those kept ready go with their namespaces")
			l.nothing("br0")
		})
	}
}

// The namespaces are where ip-netns(8) would see them: files of a shared mount.
func TestPinsAreShared(t *testing.T) {
	l := newLab(t, nil)
	l.create("web", Spec{Mode: ModeNew})
	info, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	found := 0
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if f[4] == l.cfg.Pins || f[4] == filepath.Join(l.cfg.Pins, "caisson-test-web") {
			assert.Contains(t, line, " shared:")
			found++
		}
	}
	assert.Equal(t, 2, found)
	again, err := OpenPins(l.cfg.Pins)
	require.NoError(t, err, "shared already")
	assert.Error(t, again.Discard(), "while there are pins")
	_, err = OpenPins("relative")
	assert.ErrorIs(t, err, ErrInvalid)
}
