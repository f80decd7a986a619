// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"sync"
)

// finisher ends what a Destroy has begun and had no time for: a process in a wait
// that no signal ends may take as long as a disk does.
type finisher struct {
	ctx     context.Context // ends with the host
	stop    context.CancelFunc
	running sync.WaitGroup
}

func newFinisher() *finisher {
	ctx, stop := context.WithCancel(context.Background())
	return &finisher{ctx: ctx, stop: stop}
}

// close ends the waiting; the next host goes on.
func (f *finisher) close() {
	f.stop()
	f.running.Wait()
}

// finishing is the end of one sandbox under way.
type finishing struct {
	err  error         // of the Destroy that had no time
	done chan struct{} // closed when it is over
}

// finishLater goes on destroying the sandbox until it is gone or the host is
// closed. Hosts that share their directory do not: they would keep the others
// waiting.
func (s *Sandbox) finishLater(err error) {
	h := s.host
	if h.cfg.Shared || s.driver == Driver(h.adopted) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &finishing{err: err, done: make(chan struct{})}
	if h.closed || !s.finishing.CompareAndSwap(nil, f) {
		return
	}
	h.finisher.running.Go(func() {
		defer close(f.done)
		defer s.finishing.Store(nil)
		// What keeps it from being done is what the next Destroy will say.
		_, _ = s.destroy(h.finisher.ctx)
	})
}
