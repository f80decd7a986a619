// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// endings is a driver with nothing but what tells of ends.
func endings(t *testing.T) *nativeDriver {
	t.Helper()
	d := &nativeDriver{}
	var err error
	d.engine, err = elastic.NewEngine()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.engine.Close()) })
	d.lookout, err = newLookout()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.lookout.close()) })
	return d
}

// alive is a process that lives until end is called.
func alive(t *testing.T) (pidfd *sys.FD, end func()) {
	t.Helper()
	cmd := testutil.Child(t, "wait")
	require.NoError(t, cmd.Start())
	pidfd, err := sys.PidfdOpen(cmd.Process.Pid)
	require.NoError(t, err)
	end = sync.OnceFunc(func() {
		_ = sys.PidfdSignal(pidfd.Int(), syscall.SIGKILL)
		_ = cmd.Wait()
	})
	t.Cleanup(func() { end(); assert.NoError(t, pidfd.Close()) })
	return pidfd, end
}

// told counts the calls of an ending's function.
type told struct {
	n  atomic.Int32
	at chan struct{}
}

func newTold() *told { return &told{at: make(chan struct{}, 16)} }

func (c *told) tell() { c.n.Add(1); c.at <- struct{}{} }

func (c *told) once(t *testing.T) {
	t.Helper()
	select {
	case <-c.at:
	case <-time.After(testutil.Patience(5 * time.Second)):
		require.Fail(t, "nobody was told")
	}
	assert.EqualValues(t, 1, c.n.Load())
}

// looked waits until somebody looks.
func (l *lookout) looked(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.busy
	}, testutil.Patience(5*time.Second), time.Millisecond)
}

// ageless has a look go on for as long as a test may take.
func ageless(e *ending) { e.until = time.Now().Add(time.Hour) }

func TestLook(t *testing.T) {
	testutil.Require(t, testutil.EachKernel)
	testutil.CheckLeaks(t)
	for name, c := range map[string]func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told){
		"the waiter sees it": func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told) {
			go func() { d.lookout.looked(t); end() }()
			e.look(t.Context())
			told.once(t)
		},
		"it has ended already": func(t *testing.T, _ *nativeDriver, e *ending, end func(), told *told) {
			end()
			e.look(t.Context())
			told.once(t)
		},
		"the context ends, and then the process": func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { d.lookout.looked(t); cancel() }()
			e.look(ctx)
			require.Error(t, ctx.Err())
			require.Zero(t, told.n.Load())
			end()
			told.once(t)
		},
		"the context has ended": func(t *testing.T, _ *nativeDriver, e *ending, end func(), told *told) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			e.look(ctx)
			require.Zero(t, told.n.Load())
			end()
			told.once(t)
		},
		"it is not young any more": func(t *testing.T, _ *nativeDriver, e *ending, end func(), told *told) {
			e.until = time.Now().Add(young)
			e.look(t.Context())
			require.False(t, time.Now().Before(e.until))
			require.Zero(t, told.n.Load())
			e.look(t.Context()) // does not look
			end()
			told.once(t)
		},
		"nobody may be told any more": func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told) {
			go func() { d.lookout.looked(t); e.drop() }()
			e.look(t.Context())
			end()
			e.look(t.Context())
			e.drop()
			assert.Zero(t, told.n.Load())
		},
		"the lookout closes": func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told) {
			go func() { d.lookout.looked(t); assert.NoError(t, d.lookout.close()); end() }()
			e.look(t.Context())
			told.once(t)
			assert.Equal(t, -1, d.lookout.bell.Int())
			d.lookout.ring()
		},
		"the engine does not take it again": func(t *testing.T, d *nativeDriver, e *ending, end func(), told *told) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				d.lookout.looked(t)
				_, err := d.engine.OnExit(e.pidfd.Int(), func() {})
				assert.NoError(t, err)
				cancel()
			}()
			e.look(ctx)
			end()
			told.once(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.CheckLeaks(t)
			d, told := endings(t), newTold()
			pidfd, end := alive(t)
			e, err := d.onExit(pidfd, time.Now(), told.tell)
			require.NoError(t, err)
			ageless(e)
			c(t, d, e, end, told)
			end()
			e.drop()
			assert.LessOrEqual(t, told.n.Load(), int32(1))
		})
	}
}

// Of many who wait at once, one looks.
func TestLookThreads(t *testing.T) {
	const many = 500
	d := endings(t)
	pidfd, end := alive(t)
	told := &told{at: make(chan struct{}, many)}
	var all []*ending
	for range many {
		own, err := pidfd.Dup()
		require.NoError(t, err)
		t.Cleanup(func() { _ = own.Close() })
		e, err := d.onExit(own, time.Now(), told.tell)
		require.NoError(t, err)
		ageless(e)
		all = append(all, e)
	}
	threads := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		require.NoError(t, err)
		return len(tasks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := threads()
	done := make(chan struct{}, many)
	for _, e := range all {
		go func() { e.look(ctx); done <- struct{}{} }()
	}
	for range many - 1 {
		<-done
	}
	d.lookout.looked(t)
	assert.LessOrEqual(t, threads(), before+8, "the runtime's own among them")
	end()
	for range many {
		<-told.at
	}
	<-done
	assert.EqualValues(t, many, told.n.Load())
}
