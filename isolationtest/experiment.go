// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/isolation"
)

// Experiment is a victim beside antagonists: how much does it notice of them? See [Run].
type Experiment struct {
	// Host is where all of them run; nil is a host of the experiment's own, which has
	// no controller. A test of a controller, a driver or a supervisor opens its own
	// host, starts what it is about there, and gives it here.
	Host *isolation.Host

	Victim Victim

	// Antagonists are the neighbours, such as [CPUHog] and [MemoryHog], or any
	// program. They start together when the measuring beside them begins, so
	// that what they do at their start is in it, and are destroyed at its end. An ID
	// that is empty is "antagonist-1" and so on.
	Antagonists []isolation.Spec

	// Expect is what has to hold, each by itself.
	Expect []Expectation

	// Phase is how long the victim is measured, once alone and once beside the
	// antagonists in a round; 0 is 2 s. A quantile takes some times as many latencies
	// as are above it: a p99 at least 300.
	Phase time.Duration

	// Settle is how long the machine gets after the antagonists are gone before the
	// victim counts as alone; 0 is 500 ms. While the victim is still slower than it is at
	// its p99 alone, it gets as much again, ten times at most.
	Settle time.Duration

	// Rounds is how many there are at most; 0 is 15.
	Rounds int
}

// Victim is a workload that says how it is.
type Victim struct {
	// Spec is its sandbox; an empty ID is "victim". It runs as long as the experiment.
	Spec isolation.Spec

	// Latency reads a line of its standard output, which is to be written when a
	// request was answered: how long that took from the moment it was due. A service
	// that stands still makes all requests late that are due meanwhile; who measures
	// from when a request was sent does not see them. ok is false for any other line.
	Latency func(line string) (d time.Duration, ok bool)
}

// Command is a victim that runs a program.
func Command(latency func(line string) (d time.Duration, ok bool), args ...string) Victim {
	return Victim{Spec: isolation.Spec{Process: isolation.Process{Args: args}}, Latency: latency}
}

const (
	defaultPhase  = 2 * time.Second
	defaultSettle = 500 * time.Millisecond
	defaultRounds = 15
)

// complete is the experiment with its defaults, or an error that says all that is wrong.
func (e Experiment) complete() (Experiment, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.Victim.Latency == nil {
		bad("the victim has no Latency, which reads the lines that it writes")
	}
	if len(e.Antagonists) == 0 {
		bad("there are no antagonists")
	}
	if len(e.Expect) == 0 {
		bad("nothing is expected")
	}
	for i, x := range e.Expect {
		if x.Judge == nil {
			bad("expectation %d, %q, has no Judge", i+1, x.Name)
		}
		if x.wrong != nil {
			bad("expectation %d, %q: %w", i+1, x.Name, x.wrong)
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"phase", int64(e.Phase)}, {"settle", int64(e.Settle)}, {"rounds", int64(e.Rounds)}} {
		if n.value < 0 {
			bad("%s is negative", n.name)
		}
	}
	e.Phase, e.Settle, e.Rounds = or(e.Phase, defaultPhase), or(e.Settle, defaultSettle), or(e.Rounds, defaultRounds)
	if e.Rounds < lead {
		bad("%d rounds cannot tell anything, it takes %d", e.Rounds, lead)
	}
	e.Victim.Spec = e.Victim.Spec.Clone()
	e.Victim.Spec.ID = or(e.Victim.Spec.ID, "victim")
	specs := []isolation.Spec{e.Victim.Spec}
	for i, s := range e.Antagonists {
		s = s.Clone()
		s.ID = or(s.ID, fmt.Sprintf("antagonist-%d", i+1))
		specs = append(specs, s)
	}
	seen := map[string]bool{}
	for _, s := range specs {
		if err := s.Validate(); err != nil {
			errs = append(errs, err)
		}
		if seen[s.ID] {
			bad("two sandboxes have the ID %q", s.ID)
		}
		seen[s.ID] = true
		if args := s.Process.Args; len(args) > 3 && args[1] == mark {
			if !asked.Load() {
				bad("%s is this test binary, whose TestMain does not call Workload", s.ID)
			}
			if _, err := parseJob(args[3], args[4:]); err != nil {
				bad("%s: %w", s.ID, err)
			}
		}
	}
	e.Antagonists = specs[1:]
	if len(errs) > 0 {
		return e, fmt.Errorf("experiment: %w", errors.Join(errs...))
	}
	return e, nil
}

// or is value, or another where that is its zero.
func or[T comparable](value, other T) T {
	var zero T
	if value == zero {
		return other
	}
	return value
}
