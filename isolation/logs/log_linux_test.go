// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	l, stdout, stderr := opened(t, keeper(t), Config{})
	for _, f := range []*os.File{stdout, stderr} {
		info, err := f.Stat()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o622), info.Mode().Perm(), "the workload may have any uid")
	}
	before := time.Now()
	fmt.Fprint(stdout, "one\ntwo\n\nno end")
	require.NoError(t, l.Sync()) // of two streams there is no order
	fmt.Fprint(stderr, "bad\n")
	require.NoError(t, l.Sync())
	assert.Equal(t, []string{"stdout one", "stdout two", "stdout ", "stderr bad"}, texts(t, l))
	fmt.Fprint(stdout, " yet")
	require.NoError(t, l.Finish())
	all := texts(t, l)
	assert.Equal(t, "stdout no end yet", all[len(all)-1])
	assert.Equal(t, Stats{Lines: 5, Bytes: 23}, l.Stats())
	for line := range Read(l.path(""), CRI) {
		assert.False(t, line.Time.Before(before.Truncate(time.Millisecond)))
	}
	require.NoError(t, l.Err())
}

func TestLongLinesAreCut(t *testing.T) {
	for _, format := range []Format{CRI, Raw} {
		l, stdout, _ := opened(t, keeper(t), Config{Format: format})
		long := strings.Repeat("x", 3*longest) + "end"
		fmt.Fprintln(stdout, long)
		require.NoError(t, l.Sync())
		var got strings.Builder
		parts := 0
		for line, err := range Read(l.path(""), format) {
			require.NoError(t, err)
			got.Write(line.Text)
			parts++
			assert.Equal(t, format == CRI && parts < 4, line.Partial)
		}
		assert.Equal(t, long, got.String())
	}
}

func TestRotation(t *testing.T) {
	for _, pack := range []bool{false, true} {
		l, stdout, _ := opened(t, keeper(t), Config{MaxSize: 4096, MaxTotal: 1 << 20, Compress: pack})
		var want []string
		for i := range 1000 {
			fmt.Fprintf(stdout, "line %d\n", i)
			want = append(want, fmt.Sprintf("stdout line %d", i))
			if i%50 == 0 {
				require.NoError(t, l.Sync())
			}
		}
		require.NoError(t, l.Sync())
		assert.Equal(t, want, texts(t, l))
		l.packing.Wait()
		assert.Equal(t, want, texts(t, l))
		all, err := listFiles(l.path(""))
		require.NoError(t, err)
		assert.Greater(t, len(all), 5)
		for _, f := range all[:len(all)-1] {
			assert.Equal(t, pack, f.packed, f.name)
			assert.LessOrEqual(t, f.size, int64(4096))
		}
	}
}

func TestTotalIsBounded(t *testing.T) {
	l, stdout, _ := opened(t, keeper(t), Config{MaxSize: 4096, MaxTotal: 3 * 4096, Format: Raw})
	for i := range 5000 {
		fmt.Fprintf(stdout, "line %d\n", i)
		if i%100 == 0 {
			require.NoError(t, l.Sync())
		}
	}
	require.NoError(t, l.Sync())
	all, err := listFiles(l.path(""))
	require.NoError(t, err)
	var total int64
	for _, f := range all {
		total += f.size
	}
	assert.LessOrEqual(t, total, int64(3*4096))
	got := texts(t, l)
	assert.Equal(t, "stdout line 4999", got[len(got)-1], "the newest stay")
}

func TestAge(t *testing.T) {
	l, stdout, _ := opened(t, keeper(t), Config{MaxAge: time.Hour})
	fmt.Fprintln(stdout, "old")
	require.NoError(t, l.Sync())
	l.mu.Lock()
	l.state.Begun -= int64(2 * time.Hour)
	l.mu.Unlock()
	fmt.Fprintln(stdout, "new")
	require.NoError(t, l.Sync())
	all, err := listFiles(l.path(""))
	require.NoError(t, err)
	assert.Len(t, all, 2)
	assert.Equal(t, []string{"stdout old", "stdout new"}, texts(t, l))
}

// What is above the rate is dropped by whole lines, and counted.
func TestRate(t *testing.T) {
	l, stdout, _ := opened(t, keeper(t), Config{Rate: 1000})
	line := strings.Repeat("x", 99) + "\n"
	written := strings.Repeat(line, 1000)
	_, err := stdout.WriteString(written)
	require.NoError(t, err)
	require.NoError(t, l.Sync())
	st := l.Stats()
	assert.GreaterOrEqual(t, st.Lines, uint64(50))
	assert.Less(t, st.Lines, uint64(1000))
	assert.Equal(t, uint64(1000), st.Lines+st.DroppedLines)
	assert.Equal(t, uint64(len(written)), st.Bytes+st.DroppedBytes)
	assert.Len(t, texts(t, l), int(st.Lines))
}

func TestBucket(t *testing.T) {
	b := newBucket(10)
	now := time.Now()
	assert.True(t, b.take(1000, now), "a line longer than all when it is full")
	assert.False(t, b.take(1, now))
	assert.False(t, b.take(1, now.Add(90*time.Second)))
	assert.True(t, b.take(1, now.Add(200*time.Second)))
}

// A flood while nobody looks: the newest is kept, the rest is counted, and the disk
// gets its space back (fault 61, output flooding).
func TestFlood(t *testing.T) {
	k := keeper(t)
	c := Config{Backlog: 4 << 20, MaxSize: 1 << 20, MaxTotal: 4 << 20, Format: Raw}
	l, stdout, _ := opened(t, k, c)
	require.NoError(t, l.Close())
	line := []byte(strings.Repeat("y", 1023) + "\n")
	const lines = 16 << 10
	for range lines {
		_, err := stdout.Write(line)
		require.NoError(t, err)
	}
	l, err := k.Open("web", c)
	require.NoError(t, err)
	require.NoError(t, l.Sync())
	st := l.Stats()
	assert.Equal(t, uint64(lines*len(line)), st.Bytes+st.DroppedBytes)
	assert.NotZero(t, st.DroppedBytes)
	var disk syscall.Stat_t
	require.NoError(t, syscall.Stat(l.path("stdout"), &disk))
	assert.Less(t, disk.Blocks*512, int64(2*punchEach), "of %d bytes", disk.Size)
}

// One that is flooded does not keep another waiting.
func TestFloodBesideOthers(t *testing.T) {
	k := keeper(t)
	_, stdout, _ := opened(t, k, Config{Backlog: 1 << 20, MaxSize: 1 << 20, MaxTotal: 2 << 20})
	other, err := k.Open("other", Config{})
	require.NoError(t, err)
	out, errs, err := other.Files()
	require.NoError(t, err)
	defer errs.Close()
	defer out.Close()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		block := bytes.Repeat([]byte("z\n"), 32<<10)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := stdout.Write(block); err != nil {
					return
				}
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	defer cancel()
	fmt.Fprintln(out, "hello")
	seen := false
	for line, err := range other.Lines(ctx) {
		require.NoError(t, err)
		seen = string(line.Text) == "hello"
		break
	}
	assert.True(t, seen)
	close(stop)
	<-done
}

// TestFollowToTheEnd ends a Follow when all is written: it has the last line too, which
// has no end.
func TestFollowToTheEnd(t *testing.T) {
	l, stdout, _ := opened(t, keeper(t), Config{})
	fmt.Fprintln(stdout, "first")
	require.NoError(t, l.Sync())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for line, err := range l.Lines(ctx) {
		require.NoError(t, err)
		got = append(got, string(line.Text))
		if len(got) == 1 {
			fmt.Fprint(stdout, "second\nlast")
			require.NoError(t, l.Finish())
			cancel()
		}
	}
	assert.Equal(t, []string{"first", "second", "last"}, got)
}

func TestFollow(t *testing.T) {
	l, stdout, _ := opened(t, keeper(t), Config{MaxSize: 256, Compress: true})
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	defer cancel()
	fmt.Fprintln(stdout, "line 0")
	n := 0
	for line, err := range l.Lines(ctx) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("line %d", n), string(line.Text))
		if n++; n == 100 {
			break
		}
		if n%50 == 1 {
			for i := n; i < n+50; i++ {
				fmt.Fprintf(stdout, "line %d\n", i)
			}
		}
	}
	assert.Equal(t, 100, n)
}

// A disk that is full keeps the workload from nothing, and no line is lost when
// there is room again.
func TestFullDisk(t *testing.T) {
	testutil.Require(t, testutil.Root)
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("caisson-test", dir, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	k, err := OpenKeeper(filepath.Join(dir, "logs"))
	require.NoError(t, err)
	defer k.Close()
	l, stdout, _ := opened(t, k, Config{})
	full, err := os.Create(filepath.Join(dir, "full"))
	require.NoError(t, err)
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	require.NoError(t, full.Close())
	for i := 0; ; i++ { // until its own page is full
		if _, err := fmt.Fprintf(stdout, "line %d\n", i); err != nil {
			break
		}
		require.NoError(t, os.Remove(full.Name()))
		full, err = os.Create(full.Name())
		require.NoError(t, err)
		for err == nil {
			_, err = full.Write(make([]byte, 4096))
		}
		require.NoError(t, full.Close())
		if err := l.Sync(); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
		require.Less(t, i, 10000)
	}
	require.NoError(t, os.Remove(full.Name()))
	fmt.Fprintln(stdout, "after")
	require.NoError(t, l.Sync())
	got := texts(t, l)
	require.Equal(t, "stdout after", got[len(got)-1])
	for i, text := range got[:len(got)-1] {
		require.Equal(t, fmt.Sprintf("stdout line %d", i), text)
	}
	require.NoError(t, stdout.Close())
}

func TestOpenTwice(t *testing.T) {
	k := keeper(t)
	l, _, _ := opened(t, k, Config{})
	_, err := k.Open("web", Config{})
	require.ErrorIs(t, err, os.ErrExist)
	for _, name := range []string{"", ".", "..", "a/b", "-x", "a\x00"} {
		_, err = k.Open(name, Config{})
		require.ErrorIs(t, err, ErrInvalid, name)
		require.ErrorIs(t, k.Remove(name), ErrInvalid, name)
	}
	_, err = k.Open("x", Config{Rate: -1, Format: 7})
	require.ErrorIs(t, err, ErrInvalid)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "twice")
	require.ErrorIs(t, l.Sync(), os.ErrClosed)
	names, err := k.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, names)
	require.NoError(t, k.Remove("web"))
	require.NoError(t, k.Remove("web"), "again")
	assert.NoDirExists(t, l.path(""))
	require.NoError(t, k.Close())
	_, err = k.Open("late", Config{})
	require.ErrorIs(t, err, os.ErrClosed)
}

// A directory of somebody else's is no log, whatever it is called.
func TestLookAlikes(t *testing.T) {
	k := keeper(t)
	for _, file := range []string{"mine/data", "syslog/00000001.log.old", "nested/stdout/x", "both/state"} {
		require.NoError(t, os.MkdirAll(filepath.Join(k.root, filepath.Dir(file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(k.root, file), nil, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(k.root, "both/notes"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(k.root, "empty"), 0o700))
	opened(t, k, Config{})
	names, err := k.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, names)
	for _, name := range []string{"mine", "syslog", "nested", "both"} {
		require.ErrorIs(t, k.Remove(name), ErrInvalid, name)
	}
	assert.FileExists(t, filepath.Join(k.root, "both/state"))
}

// A state that makes no sense is an error, and no line is touched.
func TestStateIsDamaged(t *testing.T) {
	k := keeper(t)
	l, stdout, _ := opened(t, k, Config{})
	fmt.Fprintln(stdout, "one")
	require.NoError(t, l.Sync())
	require.NoError(t, l.Close())
	path := l.path("state")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 0; i < len(whole); i += 7 {
		bad := bytes.Clone(whole)
		bad[i] ^= 4
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		if l, err := k.Open("web", Config{}); err == nil {
			require.NoError(t, l.Close()) // the padding
		} else {
			require.ErrorIs(t, err, errState)
		}
	}
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	l, err = k.Open("web", Config{})
	require.NoError(t, err)
	assert.Equal(t, []string{"stdout one"}, texts(t, l))
}

// TestKilled writes numbered lines while whoever keeps the log is killed again and
// again: each is there once, and in order.
func TestKilled(t *testing.T) {
	for _, how := range []string{"file", "block"} {
		t.Run(how, func(t *testing.T) { testKilled(t, how) })
	}
}

func testKilled(t *testing.T, how string) {
	testutil.CheckLeaks(t)
	c := crashing()
	c.Block = how == "block"
	root := filepath.Join(t.TempDir(), "logs")
	k, err := OpenKeeper(root)
	require.NoError(t, err)
	l, err := k.Open("web", c)
	require.NoError(t, err)
	stdout, stderr, err := l.Files()
	require.NoError(t, err)
	require.NoError(t, k.Close())

	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			out := bufio.NewWriterSize(stdout, 1+rand.IntN(200)) // lines come in pieces
			fmt.Fprintf(out, "out %d %s\n", n, strings.Repeat("x", rand.IntN(100)))
			_ = out.Flush()
			fmt.Fprintf(stderr, "err %d\n", n)
			if n%64 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	kills := testutil.Soak(15)
	if testutil.Emulated() {
		kills = 4
	}
	for range kills {
		cmd := testutil.Child(t, "keep", root, how)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(testutil.Patience(20 * time.Millisecond)))))
		<-timer.C
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	close(stop)
	k, err = OpenKeeper(root) // who writes may wait for it
	require.NoError(t, err)
	l, err = k.Open("web", c)
	require.NoError(t, err)
	written := <-done
	require.NoError(t, errors.Join(stdout.Close(), stderr.Close()))
	require.NoError(t, l.Finish())
	next := map[string]int{}
	for line, err := range Read(l.path(""), CRI) {
		require.NoError(t, err)
		var which string
		var n int
		_, err := fmt.Sscan(string(line.Text), &which, &n)
		require.NoError(t, err, "%q", line.Text)
		require.Equal(t, next[which], n, "%s", which)
		next[which]++
	}
	require.Equal(t, map[string]int{"out": written, "err": written}, next)
	assert.Equal(t, uint64(2*written), l.Stats().Lines)
	t.Logf("%d lines, %d kills, %d files", 2*written, kills, l.state.File)
	require.NoError(t, k.Close())
}
