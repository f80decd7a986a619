// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/examples/internal/traced"
	"github.com/caisson-run/caisson/isolation"
)

// way is how batch work is treated.
type way string

const (
	alone       way = "alone"
	unprotected way = "unprotected"
	static      way = "static"
	managed     way = "elastic"
	shared      way = "shared"
	reported    way = "reported"
	pinned      way = "pinned"
)

var ways = []way{alone, unprotected, static, managed, shared, reported, pinned}

// stage is the machine with the service on it.
type stage struct {
	o      options
	host   *isolation.Host
	socket string
	dir    string

	service, client *isolation.Sandbox
	jobs            []*isolation.Sandbox

	mu      sync.Mutex
	seconds [][]time.Duration // the latencies of each that was not gathered yet
	target  time.Duration     // what the service reports as its target; 0 while it reports nothing
	broken  error             // why no more will come
	arrived chan struct{}     // has a token once one of these has changed
}

// outcome is one phase.
type outcome struct {
	way       way
	latencies []time.Duration // ascending
	seconds   float64
	service   float64 // CPUs that service and client used
	batch     float64 // CPUs that batch work used
	others    float64 // CPUs that everybody else but the agent used, the kernel's threads too
	cpus      float64
	kills     uint64 // for want of memory, of the service
}

// place chooses the CPUs that nobody has chosen. A machine without cpusets has none to
// choose.
func (s *stage) place() error {
	if s.o.kept.IsZero() {
		all, err := s.host.CPUs()
		if err != nil && !errors.Is(err, cgroups.ErrNotSupported) {
			return err
		}
		for cpu := range all.Each {
			s.o.kept = cgroups.SetOf(cpu)
			break
		}
	}
	if s.o.users.IsZero() {
		s.o.users = s.o.kept
	}
	return nil
}

// serve starts Redis and the load.
func (s *stage) serve(ctx context.Context) (err error) {
	s.service, err = s.start(ctx, isolation.Spec{
		ID: "service", Class: elastic.LatencyCritical, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: s.o.kept}},
		Process: isolation.Process{Args: []string{
			"redis-server", "--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--daemonize", "no",
			"--dir", s.dir, "--logfile", "/dev/null",
		}},
	}, nil)
	if err != nil {
		return err
	}
	for {
		conn, err := net.Dial("unix", s.socket)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	s.client, err = s.start(ctx, isolation.Spec{
		ID: "client", Class: elastic.LatencyCritical, Resources: cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: s.o.users}},
		Process: isolation.Process{Args: []string{
			self, loadCommand, "-socket", s.socket, "-rate", fmt.Sprint(s.o.rate), "-cost", fmt.Sprint(s.o.cost),
			fmt.Sprintf("-even=%t", s.o.even),
		}},
	}, in)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	go s.listen(out)
	return nil
}

func (s *stage) start(ctx context.Context, spec isolation.Spec, stdout *os.File) (*isolation.Sandbox, error) {
	nice := 0 // not the agent's
	spec.Process.Scheduling.Nice = &nice
	sb, err := s.host.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return sb, sb.Start(ctx, nil, stdout, os.Stderr)
}

// listen takes in what the load generator measures, and reports it as the
// service's own word.
func (s *stage) listen(out *os.File) {
	defer out.Close()
	in := bufio.NewScanner(out)
	in.Buffer(nil, 64<<20)
	var last [][]time.Duration // seconds, a cycle
	for in.Scan() {
		var sec second
		if err := json.Unmarshal(in.Bytes(), &sec); err != nil {
			s.fail(err)
			return
		}
		if last = append(last, sec.Latencies); len(last) > int(cycle/time.Second) {
			last = last[1:]
		}
		s.mu.Lock()
		s.seconds = append(s.seconds, sec.Latencies)
		target := s.target
		s.mu.Unlock()
		s.tell()
		if target > 0 {
			list := sorted(last)
			s.service.Report(elastic.Service{Target: target, Latency: quantile(list, 0.99), Samples: len(list)})
		}
	}
	s.fail(errors.Join(errors.New("the load has ended"), in.Err()))
}

func sorted(seconds [][]time.Duration) []time.Duration {
	list := slices.Concat(seconds...)
	slices.Sort(list)
	return list
}

func (s *stage) tell() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// gather is the latencies, ascending, of the requests of the next seconds, as many
// as d has.
func (s *stage) gather(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	n := int(max(d, time.Second) / time.Second)
	s.mu.Lock()
	s.seconds = nil
	s.mu.Unlock()
	for {
		s.mu.Lock()
		have, broken := s.seconds, s.broken
		s.mu.Unlock()
		switch {
		case broken != nil:
			return nil, broken
		case len(have) >= n:
			return sorted(have[:n]), nil
		}
		select {
		case <-s.arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *stage) fail(err error) {
	s.mu.Lock()
	s.broken = err
	s.mu.Unlock()
	s.tell()
}

// warmUp is how long the service has before anything is measured.
const warmUp = 4 * time.Second

// play goes through all ways, several rounds.
func (s *stage) play(ctx context.Context) ([]outcome, error) {
	var all []outcome
	if err := s.wait(ctx, warmUp); err != nil {
		return nil, err
	}
	for round := range s.o.rounds {
		for i := range s.o.ways {
			// Another order in each round: whoever comes first is not
			// always the same.
			w := s.o.ways[(i+round)%len(s.o.ways)]
			o, err := s.undisturbed(ctx, w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w, err)
			}
			all = append(all, o)
			if w == alone && s.o.target == 0 {
				s.o.target = quantile(o.latencies, 0.99) * 6 / 5
			}
			fmt.Printf("round %d  %-12s p50 %7.3f  p99 %8.3f ms, %d answers  CPUs: service %.2f, batch %.2f, others %.2f\n",
				round+1, w, milliseconds(quantile(o.latencies, 0.5)), milliseconds(quantile(o.latencies, 0.99)),
				len(o.latencies), o.service, o.batch, o.others)
		}
	}
	return all, nil
}

// disturbance is how many CPUs others may use in a phase that counts, and attempts
// how often a phase is tried; calm is how long it is waited for others each time.
const (
	disturbance = 0.06
	attempts    = 5
	calm        = 20 * time.Second
)

// undisturbed measures when nobody else uses much of the machine; if there is no
// such time, the attempt that was disturbed least counts, and says so.
func (s *stage) undisturbed(ctx context.Context, w way) (best outcome, err error) {
	for n := range attempts {
		if err := s.caughtUp(ctx); err != nil {
			return best, err
		}
		if err := s.awaitCalm(ctx); err != nil {
			return best, err
		}
		o, err := s.measure(ctx, w)
		if err != nil {
			return o, err
		}
		if n == 0 || o.others < best.others {
			best = o
		}
		if best.others < disturbance {
			break
		}
	}
	return best, nil
}

// backlog is how late answers are while there are requests that a way has left behind,
// and patience how long it is waited for the service, alone, to answer them.
const (
	backlog  = 100 * time.Millisecond
	patience = 60 * time.Second
)

// caughtUp waits until the service has answered what was due in the way before.
func (s *stage) caughtUp(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < patience; {
		list, err := s.gather(ctx, time.Second)
		if err != nil || quantile(list, 0.5) < backlog {
			return err
		}
	}
	return fmt.Errorf("the service is behind after %v alone: -rate or -cost is too much for it", patience)
}

// awaitCalm waits, not for ever, for a second in which others use little.
func (s *stage) awaitCalm(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < calm; {
		start := time.Now()
		before, err := s.usage()
		if err != nil {
			return err
		}
		if err := s.wait(ctx, time.Second); err != nil {
			return err
		}
		after, err := s.usage()
		if err != nil {
			return err
		}
		if others(before, after, time.Since(start)) < disturbance {
			return nil
		}
	}
	return nil
}

// measure runs one way for one phase, after a settling time.
func (s *stage) measure(ctx context.Context, w way) (o outcome, err error) {
	if err := s.rank(ctx, w); err != nil {
		return o, err
	}
	if w != alone {
		if err := s.batch(ctx, w); err != nil {
			return o, err
		}
		defer func() { err = errors.Join(err, s.endBatch(context.WithoutCancel(ctx))) }()
	}
	settle := max(s.o.phase/3, 2*time.Second)
	if w == managed || w == shared || w == reported {
		stop, err := s.control(ctx, w)
		if err != nil {
			return o, err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if w == reported {
		settle = feedback
		s.promise(s.o.target)
		defer s.promise(0)
	}
	if err := s.wait(ctx, settle); err != nil {
		return o, err
	}
	if _, err := s.gather(ctx, time.Second); err != nil { // until a second begins
		return o, err
	}
	before, err := s.usage()
	if err != nil {
		return o, err
	}
	start := time.Now()
	if o.latencies, err = s.gather(ctx, s.o.phase); err != nil {
		return o, err
	}
	elapsed := time.Since(start)
	o.seconds = elapsed.Seconds()
	after, err := s.usage()
	if err != nil {
		return o, err
	}
	o.way, o.cpus = w, float64(runtime.NumCPU())
	o.service = (after.service - before.service).Seconds() / o.seconds
	o.batch = (after.batch - before.batch).Seconds() / o.seconds
	o.others = others(before, after, elapsed)
	o.kills = after.kills - before.kills
	return o, nil
}

// feedback is how long a controller that goes by reports has before it is measured.
const feedback = 16 * time.Second

// promise has the service report its latency of each last cycle, and a target;
// or nothing more if that is 0.
func (s *stage) promise(target time.Duration) {
	s.mu.Lock()
	s.target = target
	s.mu.Unlock()
	if target == 0 {
		s.service.Report(elastic.Service{})
	}
}

// rank gives service and client the weight of everybody where nobody is protected,
// and that of their class otherwise.
func (s *stage) rank(ctx context.Context, w way) error {
	r := cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(100)}}
	if w != unprotected {
		r = elastic.LatencyCritical.Limits()[0][0]
	}
	for _, sb := range []*isolation.Sandbox{s.service, s.client} {
		if _, err := sb.Update(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// batch starts the jobs, each in a sandbox.
func (s *stage) batch(ctx context.Context, w way) error {
	lines := strings.Split(s.o.batch, ";")
	for i, line := range lines {
		args := strings.Fields(line)
		var pin cgroups.Set
		if len(args) > 0 && args[0][0] == '@' {
			var err error
			if pin, err = cgroups.ParseSet(args[0][1:]); err != nil {
				return err
			}
			args = args[1:]
		}
		spec := isolation.Spec{
			ID:      fmt.Sprintf("batch-%d", i+1),
			Process: isolation.Process{Args: append([]string{"stress-ng", "--quiet"}, args...), Dir: s.dir},
		}
		switch w {
		case static:
			spec.Resources.CPU.Max = cgroups.CPUs(s.o.static / float64(len(lines)))
		case managed, shared, reported:
			spec.Class = elastic.BestEffort
		case pinned:
			spec.Class, spec.Resources.CPUSet.CPUs = elastic.BestEffort, pin
		case alone, unprotected:
		}
		sb, err := s.start(ctx, spec, nil)
		if sb != nil {
			s.jobs = append(s.jobs, sb)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) endBatch(ctx context.Context) error {
	var errs []error
	for _, sb := range s.jobs {
		errs = append(errs, sb.Destroy(ctx))
	}
	s.jobs = nil
	return errors.Join(errs...)
}

// control runs the controller until stop is called.
func (s *stage) control(ctx context.Context, w way) (stop func() error, err error) {
	cfg := elastic.Config{
		Policies: []elastic.Policy{
			&elastic.CPUSuppress{Share: s.o.share}, &elastic.CPUBurst{}, &elastic.MemoryGuard{}, &elastic.IOGuard{},
		},
	}
	if w == managed {
		cfg.Policies = append(cfg.Policies, &elastic.CPUConfine{All: true})
	}
	return traced.Start(ctx, s.host, cfg, s.o.trace)
}

func (s *stage) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// clear destroys everything.
func (s *stage) clear(ctx context.Context) error {
	var errs []error
	for sb := range s.host.Sandboxes(nil) {
		errs = append(errs, sb.Destroy(ctx))
	}
	return errors.Join(errs...)
}
