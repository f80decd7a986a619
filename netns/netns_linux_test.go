// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{
		// hold waits for the end of its input.
		"hold": func([]string) int {
			fmt.Println("ready")
			_, _ = io.Copy(io.Discard, os.Stdin)
			return 0
		},
	})
}

// fresh returns a handle on a new network namespace whose process has ended:
// only the handles hold it.
func fresh(t testing.TB) (*Handle, *namespaces.Handle) {
	cmd := testutil.Child(t, "hold")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	ns, err := namespaces.OpenPID(cmd.Process.Pid, namespaces.Network)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, ns.Close()) })
	h, err := OpenPID(cmd.Process.Pid)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	require.Equal(t, ns.ID(), h.ID())
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	return h, ns
}

// root skips tests that need a network namespace of their own.
func root(t testing.TB) context.Context {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.NetAdmin)
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second))
	t.Cleanup(cancel)
	return ctx
}

func TestLoopback(t *testing.T) {
	ctx := root(t)
	h, ns := fresh(t)
	lo, err := h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.Equal(t, Link{Name: "lo", Index: 1, MTU: 65536}, lo)

	require.NoError(t, h.SetUp(ctx, Loopback))
	require.NoError(t, h.SetUp(ctx, Loopback), "again")
	lo, err = h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.True(t, lo.Up)
	assert.True(t, lo.Running)
	assert.Contains(t, lo.Addrs, netip.MustParsePrefix("127.0.0.1/8"))

	// It counts what goes over it, the same in both ways to read.
	require.NoError(t, namespaces.Do(func() error {
		c, err := net.Dial("udp4", "127.0.0.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(make([]byte, 1000))
		return err
	}, ns))
	var st LinkStats
	require.Eventually(t, func() bool {
		require.NoError(t, h.Stats(Loopback, &st))
		return st.RxPackets >= 2 // with the answer: port unreachable
	}, testutil.Patience(10*time.Second), time.Millisecond)
	assert.GreaterOrEqual(t, st.TxBytes, uint64(1028))
	assert.Equal(t, st.RxBytes, st.TxBytes)
	lo, err = h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.Equal(t, st, lo.Stats)

	require.NoError(t, h.SetDown(ctx, Loopback))
	lo, err = h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.False(t, lo.Up)
	assert.False(t, lo.Running)
}

func TestLinks(t *testing.T) {
	ctx := root(t)
	h, ns := fresh(t)
	other, err := Open(ns)
	require.NoError(t, err)
	defer other.Close()
	assert.Equal(t, h.ID(), other.ID())

	links, err := other.Links(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, links)
	lo, err := other.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.Equal(t, lo, links[0])

	// A device of some kind, and addresses of both families on it.
	add(t, h, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", MTU: 1400, TxQLen: -1,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}, "bridge")
	for _, p := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		addr, err := netlink.ParseAddr(p)
		require.NoError(t, err)
		link, err := h.socket.LinkByName("br0")
		require.NoError(t, err)
		if err := h.socket.AddrAdd(link, addr); err != nil {
			require.ErrorIs(t, err, syscall.EOPNOTSUPP, "without IPv6 in this kernel")
			require.Contains(t, p, "2001")
		}
	}
	require.NoError(t, h.SetUp(ctx, "br0"))
	links, err = h.Links(ctx)
	require.NoError(t, err)
	last := links[len(links)-1]
	one, err := h.Link(ctx, "br0")
	require.NoError(t, err)
	assert.Equal(t, "br0", last.Name)
	assert.Equal(t, "bridge", one.Kind)
	assert.Equal(t, 1400, one.MTU)
	assert.True(t, one.Up)
	assert.Eventually(t, func() bool {
		one, err := h.Link(ctx, "br0")
		return err == nil && !one.Running
	}, testutil.Patience(5*time.Second), time.Millisecond, "no port, which the kernel notices a moment later")
	assert.Equal(t, "02:00:00:00:00:01", one.MAC)
	assert.Contains(t, one.Addrs, netip.MustParsePrefix("192.0.2.1/24"))
	assert.Equal(t, one.Addrs, last.Addrs)
	var st LinkStats
	require.NoError(t, h.Stats("br0", &st))
}

// add makes a device, or skips the test if this kernel cannot.
func add(t *testing.T, h *Handle, link netlink.Link, kind string) {
	err := h.socket.LinkAdd(link)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		testutil.Skip(t, testutil.Requirement("net."+kind), "%v", err)
	}
	require.NoError(t, err)
}

func TestManyLinks(t *testing.T) {
	ctx := root(t)
	h, _ := fresh(t)
	const n = 80
	for i := range n {
		add(t, h, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("caisson-br-%d", i), TxQLen: -1}}, "bridge")
	}
	links, err := h.Links(ctx)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(links), n+1)
	for _, l := range links {
		st := LinkStats{RxBytes: 1}
		require.NoError(t, h.Stats(l.Name, &st), "beyond the first page, too")
		assert.Zero(t, st.RxBytes)
	}
	st := LinkStats{RxBytes: 1}
	assert.ErrorIs(t, h.Stats("caisson-br-x", &st), os.ErrNotExist)
	assert.Equal(t, uint64(1), st.RxBytes, "unchanged")
}

func TestAbsentAndInvalid(t *testing.T) {
	ctx := root(t)
	h, ns := fresh(t)
	var st LinkStats
	for name, want := range map[string]error{"eth9": os.ErrNotExist, "": ErrInvalid, "lo\x00": ErrInvalid, "../lo": ErrInvalid} {
		_, err := h.Link(ctx, name)
		assert.ErrorIs(t, err, want)
		assert.ErrorIs(t, h.SetUp(ctx, name), want)
		assert.ErrorIs(t, h.SetDown(ctx, name), want)
		assert.ErrorIs(t, h.Stats(name, &st), want)
	}
	assert.EqualError(t, h.SetUp(ctx, "eth9"), "set up eth9 in "+ns.String()+": no such link")
	assert.EqualError(t, h.Stats("eth9", &st), "count eth9 in "+ns.String()+": no such link")
}

func TestOpenRefuses(t *testing.T) {
	testutil.CheckLeaks(t)
	_, err := Open(nil)
	assert.ErrorIs(t, err, ErrInvalid)
	uts, err := namespaces.Current(namespaces.UTS)
	require.NoError(t, err)
	_, err = Open(uts)
	assert.ErrorIs(t, err, ErrInvalid)
	require.NoError(t, uts.Close())
	closed, err := namespaces.Current(namespaces.Network)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = Open(closed)
	assert.ErrorIs(t, err, os.ErrClosed)
	_, err = OpenPID(1 << 30)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenPID(0)
	assert.ErrorIs(t, err, ErrInvalid)
	assert.NoError(t, (*Handle)(nil).Close())

	testutil.Require(t, testutil.Unprivileged)
	_, err = OpenPID(os.Getpid())
	assert.ErrorIs(t, err, os.ErrPermission)
}

func TestClose(t *testing.T) {
	ctx := root(t)
	h, _ := fresh(t)
	block, inside := make(chan struct{}), make(chan struct{})
	result := make(chan error)
	go func() {
		_, err := do(ctx, h, "test", "", func(*netlink.Handle) (int, error) {
			close(inside)
			<-block
			return 0, nil
		})
		result <- err
	}()
	<-inside
	waiting := make(chan error)
	go func() {
		_, err := h.Links(ctx)
		waiting <- err
	}()
	require.NoError(t, h.Close())
	assert.ErrorIs(t, <-result, os.ErrClosed)
	assert.ErrorIs(t, <-waiting, os.ErrClosed)
	require.NoError(t, h.Close())
	close(block) // and the socket is freed: CheckLeaks sees

	_, err := h.Links(ctx)
	assert.ErrorIs(t, err, os.ErrClosed)
	assert.ErrorIs(t, h.SetUp(ctx, Loopback), os.ErrClosed)
	assert.ErrorIs(t, h.Stats(Loopback, &LinkStats{}), os.ErrClosed)
}

func TestContext(t *testing.T) {
	ctx := root(t)
	h, _ := fresh(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.Links(ended)
	assert.ErrorIs(t, err, context.Canceled)

	// One that ends while the request is in the kernel, and one that ends while
	// another request is.
	block, inside := make(chan struct{}), make(chan struct{})
	during, cancel := context.WithCancel(ctx)
	result := make(chan error)
	go func() {
		n, err := do(during, h, "test", "", func(*netlink.Handle) (int, error) {
			close(inside)
			<-block
			return 1, nil
		})
		assert.Zero(t, n)
		result <- err
	}()
	<-inside
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	err = h.SetUp(short, Loopback)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualError(t, err, "set up lo in "+h.ID().String()+": context deadline exceeded")
	cancel()
	assert.ErrorIs(t, <-result, context.Canceled)

	// The handle is as good as before once the request has ended.
	close(block)
	lo, err := h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.False(t, lo.Up, "not set by the call that had ended")
}

func TestRepeat(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	got, err := repeat(ctx, func() (int, error) {
		if calls++; calls < attempts {
			return 7, netlink.ErrDumpInterrupted
		}
		return calls, nil
	})
	require.NoError(t, err)
	assert.Equal(t, attempts, got)

	calls = 0
	got, err = repeat(ctx, func() (int, error) { calls++; return 7, netlink.ErrDumpInterrupted })
	assert.ErrorIs(t, err, ErrInterrupted)
	assert.Zero(t, got, "no part of a list")
	assert.Equal(t, attempts, calls)

	calls = 0
	got, err = repeat(ctx, func() (int, error) { calls++; return 7, syscall.EPERM })
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.Zero(t, got)
	assert.Equal(t, 1, calls)

	calls = 0
	_, err = repeat(ctx, func() (int, error) { calls++; cancel(); return 7, netlink.ErrDumpInterrupted })
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, calls)

	assert.ErrorIs(t, explain(syscall.ENODEV), os.ErrNotExist)
	assert.ErrorIs(t, explain(netlink.LinkNotFoundError{}), os.ErrNotExist)
	assert.Equal(t, syscall.EPERM, explain(syscall.EPERM))
}

// While addresses come and go, a list is either whole or an error (fault 51).
func TestListsThatChange(t *testing.T) {
	ctx := root(t)
	h, ns := fresh(t)
	changer, err := Open(ns)
	require.NoError(t, err)
	defer changer.Close()
	lo, err := changer.socket.LinkByName(Loopback)
	require.NoError(t, err)
	address := func(i int) *netlink.Addr {
		return &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, byte(i>>8), byte(i)).To4(), Mask: net.CIDRMask(32, 32)}}
	}
	const base, rounds = 1000, 50
	for i := range base {
		require.NoError(t, changer.socket.AddrAdd(lo, address(i)))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				assert.NoError(t, changer.socket.AddrAdd(lo, address(base)))
				assert.NoError(t, changer.socket.AddrDel(lo, address(base)))
			}
		}
	})
	interrupted, once := 0, 0
	for range rounds {
		if _, err := h.socket.AddrList(nil, netlink.FAMILY_ALL); err != nil {
			assert.ErrorIs(t, err, netlink.ErrDumpInterrupted)
			once++
		}
		links, err := h.Links(ctx)
		if errors.Is(err, ErrInterrupted) {
			interrupted++
			continue
		}
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(links[0].Addrs), base)
	}
	close(stop)
	wg.Wait()
	links, err := h.Links(ctx)
	require.NoError(t, err)
	assert.Len(t, links[0].Addrs, base)
	t.Logf("of %d lists, %d were interrupted when read once, %d when read %d times", rounds, once, interrupted, attempts)
}

func TestConcurrent(t *testing.T) {
	ctx := root(t)
	h, _ := fresh(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				var st LinkStats
				assert.NoError(t, h.Stats(Loopback, &st))
				_, err := h.Links(ctx)
				assert.NoError(t, err)
				set := h.SetUp
				if i%2 == 0 {
					set = h.SetDown
				}
				assert.NoError(t, set(ctx, Loopback))
			}
		})
	}
	wg.Wait()
}

// It is the thread that asks whose capabilities count, not the one that made
// the handle.
func TestPermissionIsTheCallers(t *testing.T) {
	ctx := root(t)
	h, _ := fresh(t)
	lo, err := h.socket.LinkByName(Loopback)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = namespaces.Do(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			assert.NoError(t, unix.Capset(&header, &none[0]))
			assert.ErrorIs(t, h.socket.LinkSetUp(lo), os.ErrPermission)
			runtime.Goexit() // the thread must not be used again
			return nil
		})
	}()
	<-ended
	link, err := h.Link(ctx, Loopback)
	require.NoError(t, err)
	assert.False(t, link.Up)
}

func TestNamespaceEndsWithHandle(t *testing.T) {
	ctx := root(t)
	h, ns := fresh(t)
	require.NoError(t, ns.Close())
	_, err := h.Links(ctx)
	require.NoError(t, err, "the handle holds it")
}

func BenchmarkStats(b *testing.B) {
	root(b)
	h, _ := fresh(b)
	var st LinkStats
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Stats(Loopback, &st); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLink(b *testing.B) {
	ctx := root(b)
	h, _ := fresh(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Link(ctx, Loopback); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	root(b)
	_, ns := fresh(b)
	b.ReportAllocs()
	for b.Loop() {
		h, err := Open(ns)
		if err != nil {
			b.Fatal(err)
		}
		_ = h.Close()
	}
}
