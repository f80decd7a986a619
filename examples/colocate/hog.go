// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// hogCommand is the first argument that makes this program take memory without end.
const hogCommand = "hog-memory"

// The trials with a hog: how much memory all sandboxes together have, how fast the
// hog takes it, and how long a trial is.
const (
	hogMemory = 1 << 30
	hogRate   = 300 << 20 // a second
	hogTrial  = 4 * time.Second
)

// hogMain takes memory at a constant rate, and uses all of it.
func hogMain(args []string) error {
	fs := flag.NewFlagSet(hogCommand, flag.ContinueOnError)
	rate := fs.Int("rate", hogRate, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	const step = 4 << 20
	every := time.Duration(step) * time.Second / time.Duration(*rate)
	var held [][]byte
	for at := time.Now(); ; at = at.Add(every) {
		time.Sleep(time.Until(at))
		b := make([]byte, step)
		for i := 0; i < step; i += os.Getpagesize() {
			b[i] = 1
		}
		held = append(held, b)
		held[0][0]++
	}
}

// trial is what one hog did, and what was done about it.
type trial struct {
	p99     time.Duration
	first   elastic.Rung // what was done first; 0 is nothing
	after   time.Duration
	killed  uint64 // processes of the hog, by the kernel, for want of memory
	service uint64 // and of service and client
}

// hogs has one hog after the other beside the service, and prints what became of
// them. It fails if the service suffered.
func (s *stage) hogs(ctx context.Context) error {
	if _, err := s.host.Parent().Update(ctx, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(hogMemory)}}); err != nil {
		return err
	}
	if _, err := s.measure(ctx, alone); err != nil { // warm up
		return err
	}
	base, err := s.undisturbed(ctx, alone)
	if err != nil {
		return err
	}
	limit := quantile(base.latencies, 0.99) * 3 / 2
	fmt.Printf("alone: p99 %.3f ms; a trial is worse above %.3f\n", milliseconds(quantile(base.latencies, 0.99)), milliseconds(limit))
	var slow, early, killed int
	for n := 1; n <= s.o.hogs; n++ {
		t, err := s.hog(ctx)
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		if t.p99 > limit {
			slow++
		}
		if t.first != 0 && t.killed == 0 {
			early++
		}
		if t.service > 0 {
			killed++
		}
		what := "nothing was done"
		if t.first != 0 {
			what = fmt.Sprintf("%s after %v", t.first, t.after.Round(10*time.Millisecond))
		}
		fmt.Printf("trial %2d  p99 %8.3f ms  %s; the kernel killed %d of the hog, %d of the service\n",
			n, milliseconds(t.p99), what, t.killed, t.service)
	}
	fmt.Printf("of %d trials the service was killed in %d and slow in %d; the hog was stopped before anything was killed in %d\n",
		s.o.hogs, killed, slow, early)
	if killed > 0 || slow > 0 || early*10 < s.o.hogs*9 {
		return errors.New("the service is not protected")
	}
	return nil
}

// hog is one trial.
func (s *stage) hog(ctx context.Context) (t trial, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	before, err := s.usage()
	if err != nil {
		return t, err
	}
	began := time.Now()
	done := make(chan elastic.Rung, 1)
	after := make(chan time.Duration, 1)
	ctl, err := elastic.Start(ctx, s.host, elastic.Config{
		Policies: []elastic.Policy{&elastic.CPUSuppress{Share: 1}, &elastic.MemoryGuard{Patience: time.Second}},
		Period:   250 * time.Millisecond,
		OnDecision: func(d elastic.Decision) {
			if d.Policy != (&elastic.MemoryGuard{}).Name() || d.State != elastic.Made {
				return
			}
			select {
			case done <- d.Rung:
				after <- time.Since(began)
			default:
			}
		},
	})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()
	s.take()
	hog, err := s.start(ctx, isolation.Spec{
		ID: "hog", Class: elastic.BestEffort,
		Process: isolation.Process{Args: []string{self, hogCommand}},
	}, nil)
	if hog != nil {
		defer func() { err = errors.Join(err, hog.Destroy(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return t, err
	}
	if err := s.wait(ctx, hogTrial); err != nil {
		return t, err
	}
	select {
	case t.first = <-done:
		t.after = <-after
	default:
	}
	t.p99 = quantile(s.take(), 0.99)
	var st cgroups.Stats
	if err := hog.Stat(&st); err != nil {
		return t, err
	}
	t.killed, _ = st.Memory.Events.OOMKill.Value()
	now, err := s.usage()
	t.service = now.kills - before.kills
	return t, err
}
