// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func init() { children["busy"] = busyMain }

// busyMain uses memory from its first line of standard input on: "busy ANON
// LOCKED FILE BYTES hot|cold". It walks over all of it again and again, at a
// pace, and answers each further line with how many pages it has come over. A
// cold file is read once for each line.
func busyMain(args []string) int {
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	if err := keepBusy(args, in); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func keepBusy(args []string, in *bufio.Scanner) error {
	size := func(i int) int { n, _ := strconv.Atoi(args[i]); return n }
	anon, err := mapped(size(0))
	if err != nil {
		return err
	}
	locked, err := mapped(size(1))
	if err != nil {
		return err
	}
	if len(locked) > 0 {
		if err := syscall.Mlock(locked); err != nil {
			return err
		}
	}
	var cache *os.File
	if size(3) > 0 {
		if cache, err = cached(args[2], size(3)); err != nil {
			return err
		}
	}
	hot := args[4] == "hot"
	var pages atomic.Uint64
	read := func(step func()) {
		for i, buf := 0, make([]byte, 4096); i < size(3); i += len(buf) {
			_, _ = cache.ReadAt(buf, int64(i))
			step()
		}
	}
	go func() {
		pause := time.NewTicker(2 * time.Millisecond)
		step := func() {
			if pages.Add(1)%512 == 0 {
				<-pause.C
			}
		}
		for {
			if hot {
				read(step)
			}
			for i := 0; i < len(anon); i += 4096 {
				anon[i]++
				step()
			}
		}
	}()
	for in.Scan() {
		if !hot {
			read(func() {})
		}
		fmt.Println(pages.Load())
	}
	return nil
}

func mapped(size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	return syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

// cached opens a disk, or makes a file.
func cached(name string, size int) (*os.File, error) {
	if strings.HasPrefix(name, "/dev/") {
		return os.Open(name)
	}
	f, err := os.Create(name)
	if err == nil {
		_, err = f.Write(make([]byte, size))
		err = errors.Join(err, f.Sync())
	}
	return f, err
}

// busy is a process that uses memory, alone in its group.
type busy struct {
	*worker
	c *Cgroup
}

func newBusy(t *testing.T, c *Cgroup, anon, locked, cache int, heat string) *busy {
	t.Helper()
	file := os.Getenv("CAISSON_BLOCKDEV") // the file systems of the matrix are all tmpfs
	if file == "" {
		file = filepath.Join(t.TempDir(), "cached")
	}
	b := &busy{&worker{Cmd: testutil.Child(t, "busy", strconv.Itoa(anon), strconv.Itoa(locked), file, strconv.Itoa(cache), heat)}, c}
	b.Env = append(os.Environ(), "GOMAXPROCS=2", "GOGC=off")
	var err error
	b.in, err = b.StdinPipe()
	require.NoError(t, err)
	out, err := b.StdoutPipe()
	require.NoError(t, err)
	b.out = bufio.NewScanner(out)
	require.NoError(t, b.Start())
	require.NoError(t, c.Add(t.Context(), b.Process.Pid))
	b.tell(t, "go")
	for b.pages(t) < uint64(anon)/4096 {
		time.Sleep(5 * time.Millisecond)
	}
	return b
}

// pages asks how far the process has come: it is alive.
func (b *busy) pages(t *testing.T) uint64 {
	t.Helper()
	b.tell(t, "")
	require.True(t, b.out.Scan(), "the process has ended: %s", dmesgHint)
	n, err := strconv.ParseUint(b.out.Text(), 10, 64)
	require.NoError(t, err, "%s", b.out.Text())
	return n
}

const dmesgHint = "was it out of memory?"

// kills is how many processes the kernel has killed in the group for want of
// memory.
func kills(t *testing.T, c *Cgroup) uint64 {
	t.Helper()
	tree := filesOf(c)
	defer tree.close()
	text, err := tree.read(ControllerMemory, map[int]string{1: "memory.oom_control", 2: "memory.events"}[tree.version(ControllerMemory)])
	require.NoError(t, err)
	n, ok := lineOf(text, "oom_kill")
	require.True(t, ok, "%s", text)
	k, err := strconv.ParseUint(n, 10, 64)
	require.NoError(t, err)
	return k
}

// TestShrinkWorking brings the limit of a process that works to somewhere
// between 1.5 times and half of its usage, again and again. Every shrink ends
// done, restored, or refused before its first step since what stays is more than
// the limit; nobody is killed. CAISSON_SHRINKS says how many of them; make
// test-shrink does 500.
func TestShrinkWorking(t *testing.T) {
	testutil.Require(t, testutil.Root)
	const mib = 1 << 20
	rounds := 8
	if testutil.Emulated() {
		rounds = 2
	}
	if n, err := strconv.Atoi(os.Getenv("CAISSON_SHRINKS")); err == nil {
		rounds = (n + 4) / 5
	}
	for _, tc := range []struct {
		name                string
		anon, locked, cache int
		heat                string
		swap                Limit
	}{
		{"anonymous", 24 * mib, 0, 0, "hot", Max()},
		{"no swap", 16 * mib, 0, 16 * mib, "cold", Bytes(0)},
		{"hot cache", 4 * mib, 0, 24 * mib, "hot", Max()},
		{"cold cache", 4 * mib, 0, 32 * mib, "cold", Max()},
		{"locked", 4 * mib, 8 * mib, 16 * mib, "cold", Max()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testutil.CheckLeaks(t)
			r := openRoot(t)
			requireController(t, r, ControllerMemory)
			c := newGroup(t, r, ControllersOf(ControllerMemory))
			update := func(limit Limit) (Result, error) {
				return c.Update(t.Context(), supported(t, c, Resources{Memory: Memory{Max: limit, Swap: tc.swap}}))
			}
			_, err := update(Bytes(512 * mib))
			require.NoError(t, err)
			b := newBusy(t, c, tc.anon, tc.locked, tc.cache, tc.heat)
			random := rand.New(rand.NewPCG(7, 7))
			outcome := make(map[string]int)
			var worst, sum time.Duration
			for range rounds {
				_, err := update(Bytes(512 * mib))
				require.NoError(t, err)
				at := b.pages(t)
				usage := memoryUsage(t, c)
				to := uint64(float64(usage) * (0.5 + random.Float64()))
				before, start := knobState(t, c), time.Now()
				res, err := update(Bytes(to))
				took := time.Since(start)
				worst, sum = max(worst, took), sum+took
				var stopped *ShrinkError
				var refused *InUseError
				switch {
				case err == nil && len(res.Changes) > 0 && res.Changes[0].Shrunk != nil:
					outcome["done in steps"]++
				case err == nil:
					outcome["done at once"]++
				case errors.As(err, &stopped):
					outcome["restored: "+stopped.Stop.String()]++
				case errors.As(err, &refused):
					outcome["refused"]++
					require.NotErrorAs(t, err, new(*UpdateError), "before anything is touched")
					require.Equal(t, to-to%uint64(os.Getpagesize()), refused.Limit)
					require.Greater(t, refused.Usage, to)
				default:
					require.NoError(t, err)
				}
				if err != nil {
					require.ErrorIs(t, err, ErrInUse)
					require.Equal(t, before, knobState(t, c), "%v", err)
				} else {
					now, err := c.Resources()
					require.NoError(t, err)
					limit, _ := now.Memory.Max.Value()
					require.Equal(t, to-to%uint64(os.Getpagesize()), limit)
					require.True(t, now.Memory.High.IsZero() || now.Memory.High.IsMax(), "memory.high is left at %v", now.Memory.High)
				}
				require.Zero(t, kills(t, c), "%d of %d: %v", to, usage, err)
				require.GreaterOrEqual(t, b.pages(t), at)
			}
			t.Logf("%d shrinks: %v; %v on average, at most %v", rounds, outcome, sum/time.Duration(rounds), worst)
			require.NoError(t, b.Process.Kill())
			require.Error(t, b.Wait())
		})
	}
}

// TestShrinkForced kills, on v2, and only there.
func TestShrinkForced(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerMemory)
	c := newGroup(t, r, ControllersOf(ControllerMemory))
	const mib = 1 << 20
	_, err := c.Update(t.Context(), supported(t, c, Resources{Memory: Memory{Max: Bytes(256 * mib), Swap: Bytes(0)}}))
	require.NoError(t, err)
	b := newBusy(t, c, 32*mib, 0, 0, "hot")
	small := Resources{Memory: Memory{Max: Bytes(8 * mib)}}
	_, err = c.UpdateWith(t.Context(), small, UpdateConfig{Shrink: Refuse})
	require.ErrorIs(t, err, ErrInUse)
	b.pages(t)
	_, err = c.UpdateWith(t.Context(), small, UpdateConfig{Shrink: Force})
	if _, version, _ := r.Where(ControllerMemory); version == 1 {
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorIs(t, err, syscall.EBUSY)
		b.pages(t)
		require.NoError(t, b.Process.Kill())
	} else {
		require.NoError(t, err)
		require.Equal(t, uint64(1), kills(t, c))
	}
	require.Error(t, b.Wait())
}

// TestShrinkBeside freezes, measures and kills a group while its limit comes
// down; a second update waits as long as its context lives.
func TestShrinkBeside(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerMemory)
	c := newGroup(t, r, ControllersOf(ControllerMemory))
	const mib = 1 << 20
	b := newBusy(t, c, 8*mib, 0, 24*mib, "hot")
	usage := memoryUsage(t, c)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// A guard that never trips, and a long time to look.
		_, err := c.UpdateWith(ctx, Resources{Memory: Memory{Max: Bytes(usage - 2*mib)}},
			UpdateConfig{Guard: Guard{Window: 10 * time.Second, Some: 10 * time.Second, Full: 10 * time.Second}})
		done <- err
	}()
	over, end := context.WithCancel(t.Context())
	end()
	for c.updating.take(over) == nil { // nobody else has it yet
		c.updating.give()
		time.Sleep(time.Millisecond)
	}
	soon, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, err := c.Update(soon, Resources{Memory: Memory{Max: Max()}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "another update")
	require.NoError(t, c.Stat(new(Stats)))
	require.NoError(t, c.Freeze(t.Context()))
	require.NoError(t, c.Thaw(t.Context()))
	require.NoError(t, c.Kill(t.Context()))
	require.Error(t, b.Wait())
	assert.Empty(t, done, "the shrink was over before")
	cancel()
	<-done // it may have come to its end, or not
}
