// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// leases ends claims when their time has come, with one timer for all.
type leases struct {
	clock  clock
	ctx    context.Context // of what runs out
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	due    map[*Sandbox]time.Time
	tries  map[*Sandbox]int // that failed
	at     time.Time        // when the timer runs out; zero if it does not run
	stop   func() bool
	run    sync.WaitGroup
	expiry func(context.Context, *Sandbox) error
}

func newLeases(c clock) *leases {
	l := &leases{clock: c, expiry: func(ctx context.Context, s *Sandbox) error { return s.expire(ctx) }, due: make(map[*Sandbox]time.Time), tries: make(map[*Sandbox]int)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// arm has the claims of s looked at then; the zero time is never.
func (l *leases) arm(s *Sandbox, then time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if then.IsZero() {
		delete(l.tries, s)
		delete(l.due, s)
		return // the timer runs out once for nothing, at most
	}
	l.due[s] = then
	l.set(then)
}

// set makes the timer run out then, if it would not sooner. The caller holds mu.
func (l *leases) set(then time.Time) {
	if l.closed || !l.at.IsZero() && !then.Before(l.at) {
		return
	}
	if l.stop != nil {
		l.stop()
	}
	l.at = then
	l.stop = l.clock.after(max(0, then.Sub(l.clock.now())), l.expire)
}

// Expiring a claim waits for other changes of its sandbox, but not for long:
// others may be due.
const (
	expiryPatience = 5 * time.Second
	expiryRetry    = time.Second
	mostRetry      = time.Minute
)

func (l *leases) expire() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.run.Add(1)
	defer l.run.Done()
	l.at = time.Time{}
	now := l.clock.now()
	var ready []*Sandbox
	for s, then := range l.due {
		if !now.Before(then) {
			ready = append(ready, s)
			delete(l.due, s)
		}
	}
	l.mu.Unlock()

	for _, s := range ready {
		ctx, cancel := context.WithTimeout(l.ctx, expiryPatience)
		err := l.expiry(ctx, s)
		cancel()
		l.again(s, err)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	for _, then := range l.due {
		l.set(then)
	}
}

// again tries later what failed, as long as there is a sandbox.
func (l *leases) again(s *Sandbox, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, cgroups.ErrGone) {
		delete(l.tries, s)
		return
	}
	retry := l.clock.now().Add(min(expiryRetry<<min(l.tries[s], 10), mostRetry))
	if then, armed := l.due[s]; !armed || then.Before(retry) {
		l.due[s] = retry
	}
	l.tries[s]++
}

// close waits for what is running out.
func (l *leases) close() {
	l.mu.Lock()
	l.closed = true
	if l.stop != nil {
		l.stop()
	}
	l.cancel()
	l.mu.Unlock()
	l.run.Wait()
}
