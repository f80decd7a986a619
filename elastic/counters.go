// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/poll"
)

// counters turn the growth of a group's event counters into events. The watch's
// mu guards them.
type counters struct {
	listening []listening
	memory    bool
	pids      bool
	state     bool
	last      cgroups.Events

	// On v1 no file tells of memory.max, and since Linux 6.11 none of pids.max
	// (3f26a885b88b "cgroup/pids: Add pids.events.local"), so the counters are
	// read now and then.
	silent beat

	// v1 tells of an OOM before it kills, and never again, so the count is
	// looked at for a while afterwards.
	afterOOM beat
	until    time.Duration // how long
	killed   time.Duration // when a kill was counted last
}

// listening is a notifier that is polled.
type listening struct {
	n     notifier
	token poll.Token
}

const (
	// silentPeriod is how often counters are read that nothing tells of.
	silentPeriod = time.Second

	// afterOOMPeriod and afterOOMTime are how often and how long the count of
	// kills is looked at.
	afterOOMPeriod = 50 * time.Millisecond
	afterOOMTime   = time.Second
)

// openCounters begins to watch what cfg asks for. The caller holds mu.
func (w *Watch) openCounters(cfg WatchConfig) error {
	c := &w.counters
	c.memory, c.pids, c.state = cfg.Memory, cfg.PIDs, cfg.Populated
	c.killed = -2 * afterOOMTime
	c.afterOOM.fn = w.awaitKill
	c.silent.fn = w.recount
	for _, k := range []struct {
		kind   cgroups.EventKind
		wanted bool
	}{
		{cgroups.EventMemory, c.memory},
		{cgroups.EventPIDs, c.pids},
		{cgroups.EventState, c.state},
	} {
		if !k.wanted {
			continue
		}
		n, err := w.source.openEvents(k.kind)
		if err != nil {
			return err
		}
		c.listening = append(c.listening, listening{n: n})
		l := &c.listening[len(c.listening)-1]
		early := k.kind == cgroups.EventMemory && poll.Events(n.PollEvents()) == poll.In
		l.token, err = w.listen(n, func(err error) { w.counted(k.kind, early, err) })
		if err != nil {
			return err
		}
	}
	if len(c.listening) == 0 {
		return nil
	}
	if (c.memory || c.pids) && w.source.silent() {
		w.engine.schedule(&c.silent, silentPeriod)
	}
	return w.source.Events(&c.last)
}

// closeCounters ends them. The caller holds mu.
func (w *Watch) closeCounters() {
	c := &w.counters
	w.engine.schedule(&c.afterOOM, 0)
	w.engine.schedule(&c.silent, 0)
	for _, l := range c.listening {
		w.silence(l.n, l.token)
	}
	c.listening = nil
}

// counted is called when a notifier of kind was ready. early says that it tells
// of an OOM before the kill.
func (w *Watch) counted(kind cgroups.EventKind, early bool, err error) {
	if err != nil {
		w.closeCounters()
		w.failed(kind.String(), err)
		return
	}
	if kills := w.count(); early && kills == 0 && !w.stopped {
		w.counters.until = w.engine.now() + afterOOMTime
		w.engine.schedule(&w.counters.afterOOM, afterOOMPeriod)
	}
}

// recount reads the counters that nothing tells of.
func (w *Watch) recount() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.count()
	}
}

// awaitKill looks for the kill of an OOM that was told.
func (w *Watch) awaitKill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.counters
	if w.stopped || len(c.listening) == 0 {
		return
	}
	now := w.engine.now()
	switch kills := w.count(); {
	case w.stopped:
	case kills > 0:
		w.engine.schedule(&c.afterOOM, 0)
	case now >= c.until:
		w.engine.schedule(&c.afterOOM, 0)
		// The kernel tells several times of one OOM, also after the kill.
		if now-c.killed > 2*afterOOMTime {
			w.put(OOM{Time: time.Now()})
		}
	}
}

// count reads the counters and makes events of their growth; it returns how many
// processes were killed for want of memory. The caller holds mu.
func (w *Watch) count() (kills uint64) {
	c := &w.counters
	if len(c.listening) == 0 {
		return 0
	}
	var next cgroups.Events
	if err := w.source.Events(&next); err != nil {
		w.closeCounters()
		w.failed("events", err)
		return 0
	}
	last, now := c.last, time.Now()
	c.last = next
	hit := func(resource string, n uint64) {
		if n > 0 {
			w.put(LimitHit{Time: now, Resource: resource, Count: n})
		}
	}
	if c.memory {
		hit("memory.high", grown(last.Memory.High, next.Memory.High))
		hit("memory.max", grown(last.Memory.Max, next.Memory.Max))
		ooms := grown(last.Memory.OOM, next.Memory.OOM)
		if kills = grown(last.Memory.OOMKill, next.Memory.OOMKill); kills > 0 {
			c.killed = w.engine.now()
		}
		if ooms > 0 || kills > 0 {
			w.put(OOM{Time: now, OOMs: ooms, Kills: kills})
		}
	}
	if c.pids {
		hit("pids.max", grown(last.PIDs.Max, next.PIDs.Max))
	}
	if c.state {
		if v, changed := changed(last.Frozen, next.Frozen); changed {
			w.put(Frozen{Time: now, Frozen: v})
		}
		if v, changed := changed(last.Populated, next.Populated); changed {
			w.put(Populated{Time: now, Populated: v})
		}
	}
	return kills
}

// grown is by how much a counter grew; one that is absent, or was replaced by a
// smaller one, did not.
func grown(last, next cgroups.Reading[uint64]) uint64 {
	a, ok1 := last.Value()
	b, ok2 := next.Value()
	if !ok1 || !ok2 || b < a {
		return 0
	}
	return b - a
}

func changed(last, next cgroups.Reading[bool]) (value, changed bool) {
	a, ok1 := last.Value()
	b, ok2 := next.Value()
	return b, ok1 && ok2 && a != b
}
