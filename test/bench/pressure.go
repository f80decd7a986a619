// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

const (
	watchedSandboxes  = 100
	stallingSandboxes = 10 // of them
)

// pressureResult is what the worker found.
type pressureResult struct {
	Late    []time.Duration // each event after the crossing
	By      string          // who noticed: the kernel's trigger, or the sampler
	Resting float64         // of a core, while nobody stalls
	Stalled float64         // while some do, for CPU, memory and IO
}

// pressureTable says how soon an agent hears that a sandbox stalls, and what it
// costs to listen to a hundred.
func pressureTable(ctx context.Context, p *place, o options) (*table, error) {
	rounds, listen := 6, 20*time.Second
	if o.quick {
		rounds, listen = 1, time.Second
	}
	cmd := p.worker("pressure", "-name", p.name+"-pressure", "-dir", p.dir, "-state", filepath.Join(p.state, "pressure"),
		"-rounds", strconv.Itoa(rounds), "-listen", listen.String())
	var out bytes.Buffer
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	var res pressureResult
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		return nil, err
	}
	late := &row{Name: "event after the crossing, by the " + res.By, Values: spread(res.Late)}
	late.Values["max"] = float64(quantile(res.Late, 1))
	late.Bars = []bar{atMost("ms", late.Values["max"]/1e6, 250)}
	const column = "(millionths of a core)"
	share := func(name string, v float64) *row {
		return &row{Name: name, Values: map[string]float64{column: v * 1e6}, Bars: []bar{atMost("% of a core", 100*v, 1)}}
	}
	return &table{
		Name: "pressure", Title: fmt.Sprintf("Hear of stalls in %d sandboxes, with the thresholds of a Watch that names none", watchedSandboxes),
		Columns: []string{"median", "p95", "max", column},
		Rows:    []*row{late, share("listening, nobody stalls", res.Resting), share("listening, some stall, for CPU, memory and IO", res.Stalled)},
		Notes: []string{fmt.Sprintf("%d crossings, told by a thread that reads the same counters every 10 ms. The bar is about the latest; where there is", len(res.Late)),
			"CAP_SYS_RESOURCE the kernel itself is late by up to a tenth of the window. Listening: the CPU time of the agent in " + listen.String() + "."},
	}, nil
}

// stalling is a sandbox that stalls whenever it is thawed, and its counter.
type stalling struct {
	*isolation.Sandbox
	pressure cgroups.Pressure
	counts   []count // within the window, and the last one before it
	crossed  chan time.Duration
	rising   chan heard
	over     chan struct{}
}

// count is a counter of stalled time at one moment.
type count struct{ at, total time.Duration }

// heard is an event, as its reader got it.
type heard struct {
	at time.Duration
	by elastic.Source
}

// pressure is the agent.
func pressure(args []string) (err error) {
	flags := flag.NewFlagSet("pressure", flag.ContinueOnError)
	name := flags.String("name", "caisson-bench-pressure", "parent group")
	dir := flags.String("dir", "", "where a large file may be")
	state := flags.String("state", "", "state directory")
	rounds := flags.Int("rounds", 1, "crossings of each that stalls")
	listen := flags.Duration("listen", time.Second, "how long CPU time is counted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	host, err := isolation.Open(ctx, isolation.Config{Root: *state, Parent: *name})
	if err != nil {
		return err
	}
	defer func() {
		stop()
		for s := range host.Sandboxes(nil) {
			err = errors.Join(err, s.Destroy(context.Background()))
		}
		err = errors.Join(err, host.Remove(context.Background()), host.Close())
	}()
	var all []*stalling
	for i := range watchedSandboxes {
		spec := idle("s" + strconv.Itoa(i))
		if i < stallingSandboxes {
			spec.Process.Args = []string{"/bin/sh", "-c", "while :; do :; done"}
			spec.Resources.CPU.Max = cgroups.CPUs(0.1)
		}
		s, err := host.Create(ctx, spec)
		if err != nil {
			return err
		}
		if err := s.Start(ctx); err != nil {
			return err
		}
		st := &stalling{Sandbox: s, crossed: make(chan time.Duration, 1), rising: make(chan heard, 1), over: make(chan struct{}, 1)}
		if i < stallingSandboxes {
			all = append(all, st)
			if err := s.Freeze(ctx); err != nil {
				return err
			}
		}
		go st.listen(ctx)
	}
	time.Sleep(5 * time.Second) // until what they began with is over
	for _, s := range all {
		drain(s.rising)
		drain(s.over)
	}
	var res pressureResult
	res.Resting = busy(*listen)
	for range *rounds {
		late, by, err := crossings(ctx, all)
		if err != nil {
			return err
		}
		res.Late, res.By = append(res.Late, late...), by.String()
	}
	thrash, err := thrashing(ctx, host, filepath.Join(*dir, "thrash"))
	if err != nil {
		return err
	}
	if err := all[0].Thaw(ctx); err != nil {
		return err
	}
	res.Stalled = busy(*listen)
	for _, r := range []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO} {
		var p cgroups.Pressure
		if err := host.Pressure(r, &p); err != nil || p.Some.Total == 0 {
			return fmt.Errorf("nobody stalls for %v: %w", r, err)
		}
	}
	return errors.Join(thrash.Destroy(ctx), json.NewEncoder(os.Stdout).Encode(res))
}

// thrashing is a sandbox that reads a file again and again in too little memory.
func thrashing(ctx context.Context, host *isolation.Host, file string) (*isolation.Sandbox, error) {
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		return nil, err
	}
	spec := idle("thrash")
	spec.Process.Args = []string{"/bin/sh", "-c", "while :; do cat " + file + " >/dev/null; done"}
	spec.Resources.Memory.Max = cgroups.Bytes(8 << 20)
	s, err := host.Create(ctx, spec)
	if err == nil {
		err = s.Start(ctx)
	}
	return s, err
}

// busy is how much of a core this process uses in the next d.
func busy(d time.Duration) float64 {
	runtime.GC()
	cpu := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it does not fail for this process
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := cpu()
	time.Sleep(d)
	return float64(cpu()-before) / float64(d)
}

// listen reads the sandbox's events.
func (s *stalling) listen(ctx context.Context) {
	for ev, err := range s.Watch(ctx) {
		at := monotonic()
		p, ok := ev.(isolation.Pressure)
		switch {
		case err != nil:
			return
		case !ok || p.Resource != cgroups.PressureCPU:
		case p.Rising:
			offer(s.rising, heard{at, p.Source})
		default:
			offer(s.over, struct{}{})
		}
	}
}

func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

func drain[T any](c chan T) {
	select {
	case <-c:
	default:
	}
}

// crossings has each sandbox stall once, at a moment of its own.
func crossings(ctx context.Context, all []*stalling) (late []time.Duration, by elastic.Source, err error) {
	begun := make(chan *stalling, len(all))
	failed := make(chan error, len(all)+1)
	for _, s := range all {
		go func() {
			time.Sleep(rand.N(time.Second))
			if err := s.Cgroup().Pressure(cgroups.PressureCPU, &s.pressure); err != nil {
				failed <- err
				return
			}
			s.counts = []count{{monotonic(), s.pressure.Some.Total}}
			begun <- s
			if err := s.Thaw(ctx); err != nil {
				failed <- err
			}
		}()
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		if err := tell(begun, len(all), done); err != nil {
			failed <- err
		}
	}()
	for _, s := range all {
		var at time.Duration
		select {
		case at = <-s.crossed:
		case err := <-failed:
			return nil, 0, err
		case <-time.After(10 * time.Second):
			return nil, 0, fmt.Errorf("%s does not stall", s.ID())
		}
		select {
		case h := <-s.rising:
			late, by = append(late, h.at-at), h.by
		case err := <-failed:
			return nil, 0, err
		case <-time.After(10 * time.Second):
			return nil, 0, fmt.Errorf("%s has stalled, and nothing was told", s.ID())
		}
		if err := s.Freeze(ctx); err != nil {
			return nil, 0, err
		}
	}
	for _, s := range all {
		select {
		case <-s.over:
		case <-time.After(30 * time.Second):
			return nil, 0, fmt.Errorf("%s does not stall, and it was not told that it is over", s.ID())
		}
	}
	return late, by, nil
}

// tell reads the counters of n sandboxes every 10 ms, of each from when it comes in,
// and says when it has crossed the threshold. They have not stalled within the window
// before. More often would be wrong: each reading divides what has been since the last
// by the time that CPUs were busy, in whole ticks of up to 10 ms, and what came in less
// than one is lost (collect_percpu_times in kernel/sched/psi.c).
func tell(begun chan *stalling, n int, done chan struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	threshold := isolation.DefaultThresholds()[0]
	var watched []*stalling
	for n > 0 {
		select {
		case s := <-begun:
			watched = append(watched, s)
		case <-done:
			return nil
		default:
		}
		for i := 0; i < len(watched); i++ {
			s := watched[i]
			if err := s.Cgroup().Pressure(cgroups.PressureCPU, &s.pressure); err != nil {
				return err
			}
			now := count{monotonic(), s.pressure.Some.Total}
			for s.counts = append(s.counts, now); s.counts[1].at <= now.at-threshold.Window; {
				s.counts = s.counts[1:]
			}
			if now.total-s.counts[0].total >= threshold.Stall {
				s.crossed <- now.at
				watched = append(watched[:i], watched[i+1:]...)
				i--
				n--
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
