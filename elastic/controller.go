// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Config is how a [Controller] works. The zero Config measures and reports, and
// corrects nothing.
type Config struct {
	// Policies are asked in this order; see [Defaults].
	Policies []Policy

	// Period is how often everything is measured and decided. 0 is 1 s.
	Period time.Duration

	// Ask is given each correction before it is made, and may veto or replace
	// it: the scheduler has the last word. nil accepts all. It is called on
	// the controller's goroutine, which waits for the answer.
	Ask func(Correction) Verdict

	// DryRun decides and tells, and makes no correction.
	DryRun bool

	// KillEvery is the least time between two kills. 0 is 15 s.
	KillEvery time.Duration

	Monitor   MonitorConfig
	Estimator EstimatorConfig

	// OnDecision and OnReport, if set, are told what was decided, and what
	// got better or worse. They are called on the controller's goroutine and
	// must not block.
	OnDecision func(Decision)
	OnReport   func(Report)

	// Trace, if set, gets each snapshot with its decisions; see [ReadTrace].
	// A failing write ends the recording and nothing else; Err says so.
	Trace io.Writer
}

// Defaults are the policies that suit a machine with services and batch work on
// it, each with its defaults: [CPUSuppress], [CPUBurst], [MemoryProtect],
// [MemoryGuard] and [IOGuard]. [CPUConfine], [Offload] and [NetworkGuard] are not among
// them: who wants them adds them.
func Defaults() []Policy {
	return []Policy{&CPUSuppress{}, &CPUBurst{}, &MemoryProtect{}, &MemoryGuard{}, &IOGuard{}}
}

// Verdict is the embedder's answer to a correction. The zero Verdict accepts.
type Verdict struct {
	veto    string
	replace *Correction
}

// Accept lets the correction be made.
func Accept() Verdict { return Verdict{} }

// Veto forbids it. why is for the record.
func Veto(why string) Verdict { return Verdict{veto: cmp.Or(why, "vetoed")} }

// Replace makes c in its place. c is held to the same rules, but for the levers
// and the ladder, which bind policies and not the embedder.
func Replace(c Correction) Verdict { return Verdict{replace: &c} }

// State is what became of a correction.
type State string

// The states of a [Decision].
const (
	Made     State = "made"    // and what it expects is being waited for
	Refused  State = "refused" // by the rules of the ladder
	Vetoed   State = "vetoed"  // by the embedder
	Faulted  State = "failed"  // the kernel refused it, or it could not be made
	Dry      State = "dry-run" // not made, since nothing is
	CameTrue State = "met"     // what was expected came true
	Missed   State = "not-met" // it did not
)

// Decision is a correction and what became of it. A correction that expects
// something is told twice: when it was made, and when it is known whether what was
// expected came true.
type Decision struct {
	At    time.Duration `json:"at"`
	State State         `json:"state"`
	Correction
	Why string  `json:"why,omitempty"` // why it was not made
	Got float64 `json:"got,omitempty"` // the figure that was expected, as it is
}

// Controller measures a fleet, decides and corrects, again and again.
type Controller struct {
	cfg     Config
	meter   *Meter
	planner *Planner
	monitor *Monitor

	mu        sync.Mutex
	estimator *Estimator
	traceErr  error

	waiting  []waiting
	squeezed map[Target]time.Duration // when each was last squeezed
	narrowed map[Networked]narrowed   // the same for networks

	stop context.CancelFunc
	done chan struct{}
}

// narrowed is when limits of a network were set last, and whose it is.
type narrowed struct {
	at time.Duration
	id string
}

type waiting struct {
	c     Correction
	until time.Duration
}

// New makes a controller that does nothing by itself: its Step is called by the
// embedder. [Start] makes one that runs.
func New(f Fleet, cfg Config) (*Controller, error) {
	if cfg.Period < 0 {
		return nil, &cgroups.InvalidError{Field: "period", Value: cfg.Period.String(), Reason: "negative"}
	}
	cfg.Period = cmp.Or(cfg.Period, time.Second)
	p, err := NewPlanner(cfg.Policies, cfg.KillEvery)
	if err != nil {
		return nil, err
	}
	return &Controller{
		cfg: cfg, meter: NewMeter(f, cfg.Policies...), planner: p,
		monitor: NewMonitor(cfg.Monitor), estimator: NewEstimator(cfg.Estimator),
		squeezed: make(map[Target]time.Duration), narrowed: make(map[Networked]narrowed),
	}, nil
}

// Start makes a controller and runs it, until ctx ends or it is closed. Limits that
// it has set end [SqueezeLasts] later; what it has frozen stays so.
func Start(ctx context.Context, f Fleet, cfg Config) (*Controller, error) {
	c, err := New(f, cfg)
	if err != nil {
		return nil, err
	}
	ctx, c.stop = context.WithCancel(ctx)
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		arrived, stop := c.listen(f)
		defer stop()
		t := time.NewTicker(c.cfg.Period)
		defer t.Stop()
		_ = c.Step(ctx) // what cannot be measured now may be the next time
		for {
			select {
			case <-t.C:
				_ = c.Step(ctx)
			case <-arrived:
				c.Greet(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return c, nil
}

// listen is a channel with a token once there are new sandboxes, if anybody wants to
// know, until stop is called.
func (c *Controller) listen(f Fleet) (arrived <-chan struct{}, stop func()) {
	fleet, tells := f.(Announcing)
	if !tells || !slices.ContainsFunc(c.cfg.Policies, func(p Policy) bool { _, ok := p.(Greeter); return ok }) {
		return nil, func() {}
	}
	ch := make(chan struct{}, 1)
	return ch, fleet.Announce(func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
}

// Close ends a running controller and waits for the correction that it is making.
// Closing twice is nil.
func (c *Controller) Close() error {
	if c.stop != nil {
		c.stop()
		<-c.done
	}
	return nil
}

// Revocable is what may be lent to best-effort work now.
func (c *Controller) Revocable() Offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimator.Revocable()
}

// SaveEstimator is what the estimator has learned, and LoadEstimator gives it to
// one of a later process. See [Estimator.UnmarshalJSON].
func (c *Controller) SaveEstimator() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimator.MarshalJSON()
}

// LoadEstimator continues what SaveEstimator saved.
func (c *Controller) LoadEstimator(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.estimator.UnmarshalJSON(b)
}

// Err is why the trace ended before the controller did, or nil.
func (c *Controller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.traceErr
}

// Step measures, decides and corrects once. It is not safe for concurrent use,
// and not for a controller that [Start] runs.
func (c *Controller) Step(ctx context.Context) error {
	s, err := c.meter.Read()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.estimator.Observe(s)
	c.mu.Unlock()
	rec := Record{Snapshot: s}
	c.judge(&rec)
	for _, r := range c.monitor.Observe(s) {
		if c.cfg.OnReport != nil {
			c.cfg.OnReport(r)
		}
	}
	c.correct(ctx, &rec)
	c.renew(ctx, s)
	c.record(rec)
	return nil
}

// Greet looks for sandboxes that are new since the last Step, and has [Greeter]s decide
// about them, for embedders that call Step. A controller that [Start] runs does it by
// itself when its fleet is [Announcing]. As Step it is not safe for concurrent use.
func (c *Controller) Greet(ctx context.Context) {
	s := c.meter.ReadNew()
	if s == nil {
		return
	}
	rec := Record{Snapshot: s}
	c.correct(ctx, &rec)
	c.record(rec)
}

// correct does what the policies want done now.
func (c *Controller) correct(ctx context.Context, rec *Record) {
	for _, p := range c.planner.Plan(rec.Snapshot) {
		c.tell(rec, c.carryOut(ctx, rec.Snapshot, p))
	}
}

func (c *Controller) tell(rec *Record, d Decision) {
	rec.Decisions = append(rec.Decisions, d)
	if c.cfg.OnDecision != nil {
		c.cfg.OnDecision(d)
	}
}

// judge looks whether what was expected came true.
func (c *Controller) judge(rec *Record) {
	s := rec.Snapshot
	var left []waiting
	for _, w := range c.waiting {
		got, met, ok := w.c.Expect.met(s)
		d := Decision{At: s.At, Correction: w.c, Got: got}
		switch {
		case ok && met:
			d.State = CameTrue
		case !ok || s.At >= w.until:
			d.State = Missed
		default:
			left = append(left, w)
			continue
		}
		c.tell(rec, d)
	}
	c.waiting = left
}

// carryOut makes one correction, or says why not.
func (c *Controller) carryOut(ctx context.Context, s *Snapshot, p Planned) Decision {
	d := Decision{At: s.At, Correction: p.Correction}
	if p.Refused != "" {
		d.State, d.Why = Refused, p.Refused
		return d
	}
	if c.cfg.Ask != nil {
		v := c.cfg.Ask(p.Correction)
		if v.veto != "" {
			d.State, d.Why = Vetoed, v.veto
			return d
		}
		if v.replace != nil {
			if err := v.replace.Validate(); err != nil {
				d.State, d.Why = Refused, "what was to replace it: "+err.Error()
				return d
			}
			d.Correction = *v.replace
		}
	}
	if c.cfg.DryRun {
		d.State = Dry
		return d
	}
	if err := c.make(ctx, s.At, d.Correction); err != nil {
		d.State, d.Why = Faulted, err.Error()
		return d
	}
	d.State = Made
	if !d.Expect.IsZero() {
		c.waiting = append(c.waiting, waiting{d.Correction, s.At + d.Expect.Within})
	}
	return d
}

func (c *Controller) make(ctx context.Context, at time.Duration, r Correction) error {
	known := c.meter.before[r.Sandbox]
	if known == nil {
		return &cgroups.InvalidError{Field: "correction", Value: r.Sandbox, Reason: "there is no such sandbox"}
	}
	t := known.target
	switch {
	case !r.Resources.IsZero():
		if err := t.Squeeze(ctx, r.Resources); err != nil {
			return err
		}
		c.squeezed[t] = at
		return nil
	case len(r.Network) > 0:
		n, ok := t.(Networked)
		if !ok {
			return &cgroups.UnsupportedError{Feature: "limits of a network", Reason: "the target is not Networked"}
		}
		if err := n.SqueezeNetwork(ctx, r.Network...); err != nil {
			return err
		}
		c.narrowed[n] = narrowed{at, r.Sandbox}
		return nil
	case r.Rung == Reclaim:
		return t.Reclaim(ctx, r.Bytes)
	}
	act := t.Kill // Validate leaves nothing else
	if r.Rung == Release {
		act = t.Thaw
	} else if r.Rung == Freeze {
		act = t.Freeze
	}
	err := act(ctx)
	if told, ok := t.(Corrected); ok && err == nil {
		told.Corrected(r)
	}
	return err
}

// renew sees to it that limits do not end before their time. One that cannot be
// renewed ends, and the next snapshot shows it.
func (c *Controller) renew(ctx context.Context, s *Snapshot) {
	for t, at := range c.squeezed {
		if s.At-at < SqueezeLasts/3 {
			continue
		}
		if s.Find(t.ID()) == nil {
			delete(c.squeezed, t)
			continue
		}
		if t.Squeeze(ctx, cgroups.Resources{}) == nil {
			c.squeezed[t] = s.At
		}
	}
	for n, last := range c.narrowed {
		if s.At-last.at < SqueezeLasts/3 {
			continue
		}
		if s.Find(last.id) == nil {
			delete(c.narrowed, n)
			continue
		}
		if n.SqueezeNetwork(ctx) == nil {
			c.narrowed[n] = narrowed{s.At, last.id}
		}
	}
}

func (c *Controller) record(r Record) {
	if c.cfg.Trace == nil || c.Err() != nil {
		return
	}
	if err := WriteRecord(c.cfg.Trace, r); err != nil {
		c.mu.Lock()
		c.traceErr = err
		c.mu.Unlock()
	}
}
