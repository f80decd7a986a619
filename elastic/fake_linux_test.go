// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/poll"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake is a group without a kernel: the test says what its files hold and when
// they change.
type fake struct {
	mu         sync.Mutex
	privileged bool // takes triggers
	total      map[cgroups.PressureResource]time.Duration
	growing    map[cgroups.PressureResource]time.Time // total grows in real time since then
	throttle   time.Duration
	events     cgroups.Events
	err        error // of all reads
	reads      int
	open       []*fakeNotifier
	early      bool // EventMemory is v1's
	mute       bool // hits are not told
}

// fakeNotifier is an eventfd; what it is asked for was kind or trigger.
type fakeNotifier struct {
	of      *fake
	fd      *sys.FD
	kind    cgroups.EventKind
	trigger cgroups.Trigger
	err     error
	early   bool
}

func newFake() *fake {
	return &fake{
		total:   make(map[cgroups.PressureResource]time.Duration),
		growing: make(map[cgroups.PressureResource]time.Time),
	}
}

func (f *fake) notifier(n *fakeNotifier) (notifier, error) {
	fd, err := sys.NewEventFD()
	if err != nil {
		return nil, err
	}
	n.of, n.fd = f, fd
	f.open = append(f.open, n)
	return n, nil
}

func (n *fakeNotifier) FD() int { return n.fd.Int() }
func (n *fakeNotifier) PollEvents() uint32 {
	if n.early || n.kind == 0 {
		return uint32(poll.In)
	}
	return uint32(poll.In | poll.Pri)
}

func (n *fakeNotifier) Close() error { return n.fd.Close() }
func (n *fakeNotifier) Ack() error {
	if _, err := sys.DrainEventFD(n.fd); err != nil {
		return err
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	return n.err
}

func (f *fake) Pressure(r cgroups.PressureResource, p *cgroups.Pressure) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	total := f.total[r]
	if since, ok := f.growing[r]; ok {
		total += time.Since(since)
	}
	*p = cgroups.Pressure{Some: cgroups.PressureLine{Present: true, Total: total}}
	return f.err
}

func (f *fake) openTrigger(r cgroups.PressureResource, t cgroups.Trigger) (notifier, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.privileged {
		return nil, &cgroups.UnsupportedError{Feature: "trigger", Err: syscall.EINVAL}
	}
	return f.notifier(&fakeNotifier{trigger: t})
}

func (f *fake) openEvents(k cgroups.EventKind) (notifier, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notifier(&fakeNotifier{kind: k, early: f.early})
}

func (f *fake) Events(e *cgroups.Events) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	*e = f.events
	return f.err
}

func (f *fake) throttled() (cgroups.Reading[time.Duration], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cgroups.ReadingOf(f.throttle), f.err
}

func (f *fake) silent() bool { return f.mute }

func (f *fake) directory() (fd int, name string, ok bool) { return -1, "", false }
func (f *fake) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// set changes what the files hold.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// ring makes the notifiers ready that match.
func (f *fake) ring(t testing.TB, match func(*fakeNotifier) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.open {
		if match(n) && n.fd.Int() >= 0 {
			_, err := syscall.Write(n.fd.Int(), []byte{1, 0, 0, 0, 0, 0, 0, 0})
			assert.NoError(t, err)
		}
	}
}

func isTrigger(n *fakeNotifier) bool { return n.kind == 0 }
func ofKind(k cgroups.EventKind) func(*fakeNotifier) bool {
	return func(n *fakeNotifier) bool { return n.kind == k }
}

func newEngine(t testing.TB) *Engine {
	e, err := NewEngine()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, e.Close()) })
	return e
}

func watchFake(t *testing.T, e *Engine, f *fake, cfg WatchConfig) *Watch {
	w, err := e.watch(f, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, w.Close())
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, n := range f.open {
			assert.Equal(t, -1, n.fd.Int(), "a notifier was left open")
		}
	})
	return w
}

func next(t testing.TB, w *Watch) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	defer cancel()
	e, err := w.Next(ctx)
	require.NoError(t, err)
	return e
}

// nextAs is next, which must be a T.
func nextAs[T Event](t testing.TB, w *Watch) T {
	t.Helper()
	e := next(t, w)
	is, ok := e.(T)
	require.True(t, ok, "%#v", e)
	return is
}

// nothing asserts that no event comes for a while.
func nothing(t testing.TB, w *Watch, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	e, err := w.Next(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded, "%#v", e)
}

// idle asserts that nothing wakes the engine any more.
func idle(t testing.TB, e *Engine) {
	t.Helper()
	assert.Eventually(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.beats) == 0
	}, testutil.Patience(5*time.Second), ms)
}

var errFake = errors.New("input/output error")

func closed(t testing.TB, err error) { t.Helper(); require.ErrorIs(t, err, os.ErrClosed) }
