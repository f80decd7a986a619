// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func eventfd(tb testing.TB) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func signal(tb testing.TB, fd int) {
	_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(tb, err)
}

func open(tb testing.TB, tick func()) *Poller {
	p, err := New(tick)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, p.Close()) })
	return p
}

// loop waits in a goroutine of its own, as an owner does, and returns how Wait
// ended.
func loop(p *Poller) <-chan error {
	end := make(chan error, 1)
	go func() {
		for {
			if err := p.Wait(); err != nil {
				end <- err
				return
			}
		}
	}()
	return end
}

func receive[T any](tb testing.TB, ch <-chan T) (v T) {
	tb.Helper()
	select {
	case v = <-ch:
	case <-time.After(testutil.Patience(10 * time.Second)):
		require.Fail(tb, "nothing came")
	}
	return v
}

func TestEdge(t *testing.T) {
	testutil.CheckLeaks(t)
	p := open(t, nil)
	fd, other := eventfd(t), eventfd(t)
	calls, others := 0, 0
	_, err := p.Add(fd, In, func(ev Events) { calls++; assert.Equal(t, In, ev) })
	require.NoError(t, err)
	_, err = p.Add(other, In, func(Events) { others++ })
	require.NoError(t, err)

	signal(t, fd)
	require.NoError(t, p.Wait())
	assert.Equal(t, 1, calls)

	// Nobody has read fd, and it is not reported again.
	signal(t, other)
	require.NoError(t, p.Wait())
	assert.Equal(t, []int{1, 1}, []int{calls, others})

	signal(t, fd)
	require.NoError(t, p.Wait())
	assert.Equal(t, 2, calls, "a change is, though")
}

func TestReadyBeforeAdd(t *testing.T) {
	p := open(t, nil)
	fd, calls := eventfd(t), 0
	signal(t, fd)
	_, err := p.Add(fd, In, func(Events) { calls++ })
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	assert.Equal(t, 1, calls)
}

func TestOnce(t *testing.T) {
	p := open(t, nil)
	fd, calls := eventfd(t), 0
	add := func() Token {
		token, err := p.Add(fd, In|Once, func(Events) { calls++ })
		require.NoError(t, err)
		return token
	}
	first := add()
	_, err := p.Add(fd, In, func(Events) {})
	require.ErrorIs(t, err, unix.EEXIST)
	signal(t, fd)
	require.NoError(t, p.Wait())
	assert.Equal(t, 1, calls)

	second := add() // which works because the first is gone; fd is still ready
	assert.NotEqual(t, first, second)
	require.NoError(t, p.Remove(first), "does not touch the second")
	require.NoError(t, p.Wait())
	assert.Equal(t, 2, calls)
	assert.Empty(t, p.entries)
}

// An event that is on its way when its registration goes must not reach the
// registration that got the same descriptor number.
func TestStaleEvent(t *testing.T) {
	p := open(t, nil)
	var fds [2]int
	var tokens [2]Token
	calls, survivor := 0, -1
	for i := range fds {
		var err error
		fds[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		tokens[i], err = p.Add(fds[i], In, func(Events) {
			calls++
			survivor = fds[i]
			other := fds[1-i]
			require.NoError(t, p.Remove(tokens[1-i]))
			require.NoError(t, unix.Close(other))
			require.Equal(t, other, eventfd(t), "the number is given out again")
			_, err := p.Add(other, In, func(Events) { assert.Fail(t, "a stranger's event") })
			require.NoError(t, err)
		})
		require.NoError(t, err)
	}
	signal(t, fds[0])
	signal(t, fds[1])
	require.NoError(t, p.Wait())
	assert.Equal(t, 1, calls)
	later := eventfd(t)
	_, err := p.Add(later, In, func(Events) { calls += 10 })
	require.NoError(t, err)
	signal(t, later)
	require.NoError(t, p.Wait())
	assert.Equal(t, 11, calls, "nothing else was on its way")
	require.NoError(t, unix.Close(survivor))
}

func TestBadDescriptor(t *testing.T) {
	p := open(t, nil)
	_, err := p.Add(-1, In, func(Events) {})
	require.ErrorIs(t, err, unix.EBADF)
	assert.EqualError(t, err, "descriptor -1: epoll_ctl: bad file descriptor")
	f, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	require.NoError(t, err)
	defer f.Close()
	_, err = p.Add(int(f.Fd()), In, func(Events) {})
	require.ErrorIs(t, err, unix.EPERM)
	assert.Empty(t, p.entries)
	require.NoError(t, p.Remove(0))
	require.NoError(t, p.Remove(12345))
}

func TestTimer(t *testing.T) {
	testutil.CheckLeaks(t)
	ticks := make(chan time.Time, 10)
	p := open(t, func() { ticks <- time.Now() })
	end := loop(p)

	start := time.Now()
	require.NoError(t, p.Arm(30*time.Millisecond))
	assert.GreaterOrEqual(t, receive(t, ticks).Sub(start), 30*time.Millisecond)

	require.NoError(t, p.Arm(time.Hour))
	require.NoError(t, p.Arm(time.Millisecond), "the last word counts")
	receive(t, ticks)

	require.NoError(t, p.Arm(20*time.Millisecond))
	require.NoError(t, p.Arm(0))
	select {
	case <-ticks:
		assert.Fail(t, "a stopped timer ran out, or one ran out twice")
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, p.Close())
	require.ErrorIs(t, receive(t, end), os.ErrClosed)
	require.ErrorIs(t, p.Arm(time.Millisecond), os.ErrClosed)
}

// TestTurns has the timer run out while a function of a descriptor runs.
func TestTurns(t *testing.T) {
	testutil.CheckLeaks(t)
	var running, both atomic.Bool
	ticks := make(chan time.Time, 1)
	p := open(t, func() { both.Store(running.Load()); ticks <- time.Now() })
	fd := eventfd(t)
	_, err := p.Add(fd, In, func(Events) {
		running.Store(true)
		defer running.Store(false)
		assert.NoError(t, p.Arm(time.Millisecond))
		time.Sleep(20 * time.Millisecond)
	})
	require.NoError(t, err)
	signal(t, fd)
	require.NoError(t, p.Wait())
	receive(t, ticks)
	assert.False(t, both.Load(), "one after the other")

	// Nor does it after the end, if it ran out before.
	p.turn.Lock()
	require.NoError(t, p.Arm(time.Nanosecond))
	time.Sleep(5 * time.Millisecond)
	require.NoError(t, p.Close())
	p.turn.Unlock()
	time.Sleep(5 * time.Millisecond)
	assert.Empty(t, ticks)
}

func TestClose(t *testing.T) {
	testutil.CheckLeaks(t)
	idle, err := New(nil)
	require.NoError(t, err)
	require.NoError(t, idle.Close(), "nobody waits")
	require.NoError(t, idle.Close())
	require.ErrorIs(t, idle.Wait(), os.ErrClosed)

	p := open(t, nil)
	fd := eventfd(t)
	token, err := p.Add(fd, In, func(Events) {})
	require.NoError(t, err)
	end := loop(p)
	require.NoError(t, p.Close(), "somebody waits, or is about to")
	require.ErrorIs(t, receive(t, end), os.ErrClosed)
	_, err = p.Add(fd, In, func(Events) {})
	require.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, p.Remove(token))
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st), "added descriptors stay open")
}

func TestCloseFromFunction(t *testing.T) {
	testutil.CheckLeaks(t)
	p := open(t, nil)
	calls := 0
	for range 2 {
		fd := eventfd(t)
		signal(t, fd)
		_, err := p.Add(fd, In, func(Events) { calls++; assert.NoError(t, p.Close()) })
		require.NoError(t, err)
	}
	require.ErrorIs(t, p.Wait(), os.ErrClosed)
	assert.Equal(t, 1, calls, "the second is not called any more")
}

func TestOneWaiter(t *testing.T) {
	p := open(t, nil)
	fd := eventfd(t)
	signal(t, fd)
	_, err := p.Add(fd, In, func(Events) { assert.ErrorContains(t, p.Wait(), "two goroutines") })
	require.NoError(t, err)
	require.NoError(t, p.Wait())
}

// many is how many descriptors this process may open, up to 5,000.
func many(t *testing.T) int {
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	return int(min(5000, lim.Cur-100))
}

func TestManyDescriptors(t *testing.T) {
	testutil.Require(t, testutil.EachKernel)
	testutil.CheckLeaks(t)
	p := open(t, nil)
	end := loop(p)
	n := many(t)
	counts := make([]atomic.Int32, n)
	fds := make([]int, n)
	var wg sync.WaitGroup
	for i := range fds {
		var err error
		fds[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		_, err = p.Add(fds[i], In, func(Events) { counts[i].Add(1); wg.Done() })
		require.NoError(t, err)
	}
	const rounds = 3
	for round := range rounds {
		wg.Add(n)
		for _, fd := range fds {
			signal(t, fd)
		}
		wg.Wait()
		for i := range counts {
			require.EqualValues(t, round+1, counts[i].Load(), i)
		}
	}
	require.NoError(t, p.Close())
	require.ErrorIs(t, receive(t, end), os.ErrClosed)
	for _, fd := range fds {
		require.NoError(t, unix.Close(fd))
	}
}

// Registrations come and go on eight goroutines, with descriptor numbers used
// again at once, while events arrive. Each function belongs to one life of a
// descriptor, and must not be called once Remove has returned and the call that
// may have begun is over.
func TestAddRemoveRace(t *testing.T) {
	testutil.CheckLeaks(t)
	p := open(t, nil)
	end := loop(p)
	rounds := 300
	if testutil.Emulated() {
		rounds = 30
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range rounds {
				fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
				if !assert.NoError(t, err) {
					return
				}
				called := make(chan struct{}, 100)
				token, err := p.Add(fd, In, func(Events) { called <- struct{}{} })
				assert.NoError(t, err)
				_, err = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
				assert.NoError(t, err)
				if i%2 == 0 {
					<-called
				}
				assert.NoError(t, p.Remove(token))
				assert.NoError(t, unix.Close(fd))
				assert.LessOrEqual(t, len(called), 1)
			}
		})
	}
	wg.Wait()
	assert.Empty(t, p.entries)
	require.NoError(t, p.Close())
	require.ErrorIs(t, receive(t, end), os.ErrClosed)
}

func TestAddDoesNotGrow(t *testing.T) {
	p := open(t, nil)
	fd, fn := eventfd(t), func(Events) {}
	n := testing.AllocsPerRun(1000, func() {
		token, err := p.Add(fd, In, fn)
		require.NoError(t, err)
		require.NoError(t, p.Remove(token))
	})
	assert.Zero(t, n)
}

func BenchmarkAddRemove(b *testing.B) {
	p := open(b, nil)
	fd, fn := eventfd(b), func(Events) {}
	b.ReportAllocs()
	for b.Loop() {
		token, _ := p.Add(fd, In|Once, fn)
		_ = p.Remove(token)
	}
}

// BenchmarkWake is one event from its cause to a goroutine that waits for it.
func BenchmarkWake(b *testing.B) {
	p := open(b, nil)
	_ = loop(p)
	fd, woken := eventfd(b), make(chan struct{})
	_, err := p.Add(fd, In, func(Events) { woken <- struct{}{} })
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		signal(b, fd)
		<-woken
	}
}
