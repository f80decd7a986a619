// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// The pace of looking for drift and of undoing it.
const (
	driftSettle  = 100 * time.Millisecond // who writes one knob may write the next
	driftPause   = time.Second            // between two looks, and doubled between two repairs
	driftPoll    = time.Minute            // for what no write tells of
	driftRepairs = 6                      // then it is a fight
	driftQuiet   = 10 * time.Minute       // after the last repair the fight is forgotten
)

// warden looks for drift of one sandbox as long as somebody watches it.
type warden struct {
	clock  clock
	policy DriftPolicy

	look   func(context.Context) (found []cgroups.Drift, version uint64, err error) // of what was acknowledged
	repair func(context.Context) error
	accept func(context.Context) error
	listen func(poke func()) (cancel func()) // to writes; nil if that cannot be
	emit   func(elastic.Event)

	ctx    context.Context // of repairs
	cancel context.CancelFunc

	mu       sync.Mutex
	stopped  bool
	deaf     func()        // ends what listen began
	stop     func() bool   // the timer's
	due      time.Time     // when it runs out; zero if it does not run
	looking  chan struct{} // closed when the look under way has ended; nil if there is none
	again    bool          // there was a write meanwhile
	looked   time.Time
	version  uint64 // of what was acknowledged, at the last look
	seen     []Drift
	repairs  int
	repaired time.Time
	failure  string // of the last look
}

// begin looks for the first time, and listens.
func (w *warden) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.deaf = w.listen(w.poke)
	w.schedule(0)
}

// end waits for a look under way.
func (w *warden) end() {
	w.mu.Lock()
	w.stopped = true
	if w.stop != nil {
		w.stop()
	}
	w.cancel()
	if w.deaf != nil {
		w.deaf()
	}
	looking := w.looking
	w.mu.Unlock()
	if looking != nil {
		<-looking
	}
}

// relisten listens anew.
func (w *warden) relisten() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	before := w.deaf
	w.deaf = w.listen(w.poke)
	if before != nil {
		before()
	}
}

// poke is called after writes, ours among them. It does not block.
func (w *warden) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looking != nil {
		w.again = true
		return
	}
	w.soon()
}

// soon schedules a look for when a writer may be done. The caller holds mu.
func (w *warden) soon() {
	w.schedule(max(driftSettle, driftPause-w.clock.now().Sub(w.looked)))
}

// schedule makes a look happen in d, if none would sooner. The caller holds mu.
func (w *warden) schedule(d time.Duration) {
	at := w.clock.now().Add(d)
	if w.stopped || !w.due.IsZero() && !at.Before(w.due) {
		return
	}
	if w.stop != nil {
		w.stop() // if it was too late, that look finds another under way, or nothing new
	}
	w.due = at
	w.stop = w.clock.after(d, w.run)
}

// run is one look.
func (w *warden) run() {
	w.mu.Lock()
	if w.stopped || w.looking != nil {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.looking, w.again, w.due = done, false, time.Time{}
	w.mu.Unlock()

	next := w.examine()

	w.mu.Lock()
	defer w.mu.Unlock()
	w.looking = nil
	w.looked = w.clock.now()
	close(done)
	if next == 0 {
		w.stopped = true
		return
	}
	w.schedule(next)
	if w.again {
		w.soon()
	}
}

// examine looks, acts and reports. It returns when to look next, 0 for never.
func (w *warden) examine() time.Duration {
	found, version, err := w.look(w.ctx)
	switch {
	case errors.Is(err, errBusy):
		return driftPause
	case errors.Is(err, cgroups.ErrGone), errors.Is(err, os.ErrClosed):
		return 0
	case err != nil:
		if text := err.Error(); text != w.failure {
			w.failure = text
			w.emit(Failed{Time: w.clock.now(), What: "drift", Err: err})
		}
		return driftPoll
	}
	w.failure = ""
	now := w.clock.now()
	if version != w.version {
		w.repairs = 0
		w.version = version
		w.relisten() // other knobs may be named
	}
	if now.Sub(w.repaired) > driftQuiet {
		w.repairs = 0
	}
	fresh := w.compare(found, now)
	if len(found) == 0 {
		return driftPoll
	}
	next := driftPoll
	switch w.policy {
	case DriftReport:
	case DriftAccept:
		if err := w.accept(w.ctx); err != nil {
			w.tell(fresh, "", err)
			return driftPoll
		}
		w.tell(w.all(), "accepted", nil)
		w.set(nil)
		return driftPoll
	case DriftReapply:
		wait := w.repaired.Add(driftPause << w.repairs).Sub(now)
		switch {
		case w.repairs >= driftRepairs:
			w.tell(fresh, "given up", nil)
			return driftPoll
		case wait > 0:
			next = wait
		default:
			w.repairs++
			w.repaired = now
			err := w.repair(w.ctx)
			did := "reapplied"
			if err != nil {
				did, next = "", driftPause<<w.repairs
				if w.repairs == driftRepairs {
					did, next = "given up", driftPoll
				}
			}
			w.tell(w.all(), did, err)
			if err == nil {
				w.set(nil)
			}
			return next
		}
	}
	w.tell(fresh, "", nil)
	return next
}

// compare takes over what was found, tells what is over, and returns what is
// new.
func (w *warden) compare(found []cgroups.Drift, now time.Time) (fresh []Drift) {
	before := w.all()
	var all []Drift
	for _, f := range found {
		d := Drift{Time: now, Since: now, Drift: f}
		i := slices.IndexFunc(before, func(old Drift) bool { return old.Knob == f.Knob && old.Path == f.Path })
		switch {
		case i < 0:
			fresh = append(fresh, d)
		case before[i].Drift != f:
			d.Since = before[i].Since
			fresh = append(fresh, d)
		default:
			d.Since = before[i].Since
		}
		if i >= 0 {
			before = slices.Delete(before, i, i+1)
		}
		all = append(all, d)
	}
	w.set(all)
	for _, d := range before {
		d.Time, d.Over = now, true
		w.emit(d)
	}
	return fresh
}

func (w *warden) tell(all []Drift, did string, err error) {
	for _, d := range all {
		d.Did = did
		if err != nil {
			d.Err = err.Error()
		}
		w.emit(d)
	}
}

// all is what has drifted, as far as is known.
func (w *warden) all() []Drift {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

func (w *warden) set(all []Drift) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = all
}
