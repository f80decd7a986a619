// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/poll"
)

// gauge is the pressure of one resource, with the thresholds on it. It is read
// periodically while a threshold needs it, once for all of them. The watch's mu
// guards it.
type gauge struct {
	w        *Watch
	resource cgroups.PressureResource
	lines    []*line
	beat     beat

	pressure  cgroups.Pressure // as read last
	throttled cgroups.Reading[time.Duration]
	asOf      time.Duration // the total of pressure when throttled was read

	below bool  // what the engine has above tells whether this can have grown
	calm  int64 // what that was when this was read last
}

// line is one threshold. With a trigger it needs samples only from when the
// kernel tells of a crossing until that is over; without one, always.
type line struct {
	window
	trigger notifier
	token   poll.Token
	until   time.Duration // with a trigger: sampled until then at least
}

// openThreshold begins to watch t. The caller holds mu.
func (w *Watch) openThreshold(t Threshold) error {
	i := slices.IndexFunc(w.gauges, func(g *gauge) bool { return g.resource == t.Resource })
	if i < 0 {
		g := &gauge{w: w, resource: t.Resource, calm: -1}
		if of, ok := w.source.(*group); ok {
			g.below = w.engine.above.covers(of.Cgroup)
		}
		g.beat.fn = g.tick
		i = len(w.gauges)
		w.gauges = append(w.gauges, g)
	}
	g := w.gauges[i]

	// The first sample is taken before there is a trigger, so that it is not
	// later than where the kernel begins to count.
	if err := g.read(true); err != nil {
		return err
	}
	if t.Full && !g.pressure.Full.Present {
		return &cgroups.UnsupportedError{
			Feature: "full pressure of " + t.Resource.String(), Since: "Linux 5.13", Reason: "the kernel has no such line",
		}
	}
	l := &line{window: window{threshold: t}}
	g.lines = append(g.lines, l)
	l.begin(g.sampleOf(l, w.engine.now()))

	// Whatever the reason why there is no trigger, sampling does the same.
	n, err := w.source.openTrigger(t.Resource, t.trigger())
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	l.trigger = n
	l.token, err = w.listen(n, func(err error) { g.tripped(l, err) })
	return err
}

// closeGauge ends a gauge. The caller holds mu.
func (w *Watch) closeGauge(g *gauge) {
	w.engine.schedule(&g.beat, 0)
	for _, l := range g.lines {
		if l.trigger != nil {
			w.silence(l.trigger, l.token)
		}
	}
	g.lines = nil
}

// read reads the pressure and, for cpu, how long the group's own limit has held
// it back. Who is held back stalls, so that is read only if there was stalling,
// or if it is the first time.
func (g *gauge) read(first bool) error {
	if err := g.w.source.Pressure(g.resource, &g.pressure); err != nil {
		return err
	}
	total := g.pressure.Some.Total
	if g.resource != cgroups.PressureCPU || !first && total == g.asOf {
		return nil
	}
	var err error
	g.throttled, err = g.w.source.throttled()
	g.asOf = total
	return err
}

func (g *gauge) sampleOf(l *line, at time.Duration) sample {
	of := g.pressure.Some
	if l.threshold.Full {
		of = g.pressure.Full
	}
	s := sample{at: at, total: of.Total}
	s.throttled, _ = g.throttled.Value()
	return s
}

// tick is the periodic sample.
func (g *gauge) tick() {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	if g.w.stopped || len(g.lines) == 0 {
		return
	}
	if g.below {
		// Read before the group is, so that nothing falls between the two.
		m := g.w.engine.stalled(g.resource)
		if m.total >= 0 && m.total == g.calm {
			g.tell(nil, m.at)
			return
		}
		g.calm = m.total
	}
	g.sample(nil)
}

// tripped is called when l's trigger fires. The watch's mu is held.
func (g *gauge) tripped(l *line, err error) {
	if len(g.lines) == 0 {
		return
	}
	if err != nil {
		// Ack cannot always tell a group that is gone from one whose pressure
		// is being switched off; reading can.
		if reading := g.read(false); reading != nil {
			err = reading
		}
		g.fail(err)
		return
	}
	g.sample(l)
}

// sample reads the pressure and tells every threshold; tripped, if any, is the
// one that the kernel says is crossed.
func (g *gauge) sample(tripped *line) {
	at := g.w.engine.now()
	if err := g.read(false); err != nil {
		g.fail(err)
		return
	}
	g.tell(tripped, at)
}

// tell tells every threshold what the pressure was at the moment at.
func (g *gauge) tell(tripped *line, at time.Duration) {
	e := g.w.engine
	for _, l := range g.lines {
		s := g.sampleOf(l, at)
		var change edge
		var m measure
		if l == tripped {
			change, m = l.trip(s)
			l.until = at + l.threshold.Window
		} else {
			change, m = l.add(s)
		}
		if change != none {
			g.w.put(g.event(l, l == tripped, change, m))
		}
	}
	e.schedule(&g.beat, g.period(at))
}

// event is what a change of l becomes.
func (g *gauge) event(l *line, tripped bool, change edge, m measure) Pressure {
	ev := Pressure{
		Time:      time.Now(),
		Threshold: l.threshold,
		Rising:    change == rising,
		Stalled:   m.stalled,
		Span:      m.span,
		Total:     l.samples[len(l.samples)-1].total,
		Source:    Sampler,
		Latency:   l.threshold.period(),
	}
	if !g.throttled.IsZero() {
		ev.Throttled = cgroups.ReadingOf(m.throttled)
	}
	if tripped {
		// The kernel looks ten times a window.
		ev.Source, ev.Latency = Trigger, l.threshold.Window/10
	}
	return ev
}

// period is how often the gauge must be read from now on; 0 is not at all.
func (g *gauge) period(now time.Duration) time.Duration {
	shortest := time.Duration(0)
	for _, l := range g.lines {
		if l.trigger != nil && !l.high && now >= l.until {
			continue
		}
		if p := l.wait(); shortest == 0 || p < shortest {
			shortest = p
		}
	}
	return shortest
}

// fail ends the gauge. The watch's mu is held.
func (g *gauge) fail(err error) {
	g.w.closeGauge(g)
	g.w.failed(g.resource.String()+" pressure", err)
}
