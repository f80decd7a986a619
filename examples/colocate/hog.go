// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// hogCommand is the first argument that makes this program take memory without end.
const hogCommand = "hog-memory"

// The trials with a hog: how much memory all sandboxes together have, how fast the
// hog takes it, and when it is destroyed, whatever became of it. A trial is one
// cycle of the load, with the hog's end in it, and so is the time alone before it.
const (
	hogMemory = 512 << 20
	hogRate   = 500 << 20 // a second
	hogLife   = cycle * 3 / 4
)

// slowed is by how much a trial may be slower than alone.
const slowed = 1.5

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
	alone   time.Duration // p99 of the time before
	p99     time.Duration // until the hog is gone, and a little longer
	first   elastic.Rung  // what was done first; 0 is nothing
	after   time.Duration
	killed  uint64 // processes of the hog, by the kernel, for want of memory
	service uint64 // and of service and client
}

// hogs has one hog after the other beside the service, and the service alone
// between them, and prints what became of them. It fails if the service suffered.
func (s *stage) hogs(ctx context.Context) error {
	if _, err := s.host.Parent().Update(ctx, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(hogMemory)}}); err != nil {
		return err
	}
	if err := s.wait(ctx, warmUp); err != nil {
		return err
	}
	if _, err := s.gather(ctx, time.Second); err != nil { // until a second begins
		return err
	}
	var trials []trial
	for n := 1; n <= s.o.hogs; n++ {
		quiet, err := s.gather(ctx, cycle)
		if err != nil {
			return err
		}
		t, err := s.hog(ctx)
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		t.alone = quantile(quiet, 0.99)
		trials = append(trials, t)
		what := "nothing was done"
		if t.first != 0 {
			what = fmt.Sprintf("%s after %v", t.first, t.after.Round(10*time.Millisecond))
		}
		fmt.Printf("trial %2d  p99 %7.3f ms alone, %7.3f beside the hog; %s; the kernel killed %d of the hog, %d of the service\n",
			n, milliseconds(t.alone), milliseconds(t.p99), what, t.killed, t.service)
	}
	return verdict(os.Stdout, trials)
}

// verdict says how many trials went well. A trial is slow against the median of
// what the service had alone; how often it was as slow alone is said, too.
func verdict(w io.Writer, trials []trial) error {
	var quiet []float64
	for _, t := range trials {
		quiet = append(quiet, milliseconds(t.alone))
	}
	base := median(quiet)
	var slow, quietSlow, early, killed int
	for _, t := range trials {
		if milliseconds(t.p99) > slowed*base {
			slow++
		}
		if milliseconds(t.alone) > slowed*base {
			quietSlow++
		}
		if t.first != 0 && t.killed == 0 {
			early++
		}
		if t.service > 0 {
			killed++
		}
	}
	fmt.Fprintf(w, "alone the median p99 is %.3f ms; above %.1f times that were %d of %d trials, and %d of as many without a hog\n",
		base, slowed, slow, len(trials), quietSlow)
	fmt.Fprintf(w, "the service was killed in %d; the hog was stopped before anything was killed in %d\n", killed, early)
	if killed > 0 || slow > 0 || early*10 < len(trials)*9 {
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
		Policies: []elastic.Policy{&elastic.CPUSuppress{Share: 1}, &elastic.CPUConfine{All: true}, &elastic.MemoryGuard{Patience: time.Second}},
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
	type gathered struct {
		list []time.Duration
		err  error
	}
	all := make(chan gathered, 1)
	go func() {
		list, err := s.gather(ctx, cycle)
		all <- gathered{list, err}
	}()
	hog, err := s.start(ctx, isolation.Spec{
		ID: "hog", Class: elastic.BestEffort,
		Process: isolation.Process{Args: []string{self, hogCommand}},
	}, nil)
	defer func() {
		if hog != nil {
			err = errors.Join(err, hog.Destroy(context.WithoutCancel(ctx)))
		}
		got := <-all
		t.p99, err = quantile(got.list, 0.99), errors.Join(err, got.err)
	}()
	if err != nil {
		return t, err
	}
	if err := s.wait(ctx, hogLife); err != nil {
		return t, err
	}
	select {
	case t.first = <-done:
		t.after = <-after
	default:
	}
	var st cgroups.Stats
	if err := hog.Stat(&st); err != nil {
		return t, err
	}
	t.killed, _ = st.Memory.Events.OOMKill.Value()
	now, err := s.usage()
	t.service = now.kills - before.kills
	return t, err
}
