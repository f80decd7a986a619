// SPDX-License-Identifier: Apache-2.0

// Colocate puts a real service and real batch work on one machine, and measures
// what they do to each other: Redis, driven at a constant rate, next to stress-ng.
// Four ways, in turn, several rounds, medians:
//
//	alone        the service has the machine to itself
//	unprotected  batch work beside it, both as the kernel treats everybody
//	static       batch work with fixed limits
//	elastic      batch work as best effort, under an elastic controller, which keeps
//	             it off the CPU that the service's owner has given it
//
// and, where -ways asks for them,
//
//	shared       as elastic, but best effort has what the service leaves of its CPU,
//	             too: no elastic.CPUConfine
//	reported     as shared, and the service reports its p99 of the last seconds,
//	             and a target: the controller goes by that, too
//	pinned       batch work as best effort and no controller; a job that begins with
//	             @LIST runs on these CPUs only
//
// The load is open: a request is sent when it is due, whether or not the ones
// before were answered, and its latency counts from then. Requests come at random,
// as those of users who do not know of each other, and each cycle of 2 s has the
// same ones, so that what is measured for whole cycles is comparable. A request
// costs the service two milliseconds of CPU, as a page or a query does, and there are
// 370 a second, so that the service uses some two thirds of its CPU. The less one
// costs, the more a single system call of batch work, which the kernel does not
// interrupt, shows in the p99; the more there are, the more the p99 is of requests
// that wait for each other; and the fewer there are, the more of a CPU is idle that
// nobody else may have. -cost, -rate and -even (requests at equal distances, which
// wait for nobody) choose others. A phase in which other processes of the machine, or
// its host, used more than a little is measured again.
//
// Service and load generator have one CPU, the first (-service-cpus, -client-cpus),
// in each of the ways: Redis is one thread, and its users are not on the machine.
// Where best effort runs on the same CPU, the kernel sometimes goes on with it when
// somebody has pushed the service off for a moment (ARCHITECTURE.md), the more often
// the more of the time it runs there. -share leaves a part of the CPUs idle, as
// elastic.CPUSuppress has it.
//
// Who measures is a neighbour of the service, too. The load generator is one thread
// that the service's CPU is taken for as seldom as can be. The agent takes about a
// millisecond each time that it looks at everything, and at the priority of
// everybody that is a millisecond for which the service may have to wait. So it
// runs at nice 19.
//
// It prints a table and draws a page. It needs root, redis-server and stress-ng;
// `make colocate` installs them. Everything runs in sandboxes, and the service is
// spoken to through a socket in the file system: no network is used.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// options are what can be chosen.
type options struct {
	config isolation.Config
	ways   []way
	rounds int
	phase  time.Duration // how long each way is measured in each round
	rate   int           // requests a second
	even   bool          // requests at equal distances
	cost   int           // turns of the loop that a request runs
	batch  string        // stress-ng's arguments; several jobs separated by ";"
	static float64       // CPUs that all batch work together gets in the static way
	kept   cgroups.Set   // the CPUs that the service may use
	users  cgroups.Set   // those of the load generator
	share  float64       // CPUSuppress.Share of the elastic ways
	target time.Duration // the latency that the service reports as its target; 0: 1.2 times that of the first time alone
	hogs   int           // trials with a memory hog, instead of the four ways
	page   string
	trace  string
}

func (o *options) setWays(list string) error {
	o.ways = nil
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(ways, way(name)) {
			return fmt.Errorf("there is no way %q", name)
		}
		o.ways = append(o.ways, way(name))
	}
	return nil
}

func main() {
	// The load generator and the hog are this program too, in sandboxes of their
	// own.
	if len(os.Args) > 1 {
		if run := map[string]func([]string) error{loadCommand: loadMain, hogCommand: hogMain}[os.Args[1]]; run != nil {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "colocate:", err)
				os.Exit(1)
			}
			return
		}
	}
	var o options
	flag.StringVar(&o.config.Root, "root", "/run/caisson-colocate", "state `directory`")
	flag.StringVar(&o.config.Parent, "parent", "caisson-colocate", "cgroup above the sandboxes")
	o.ways = []way{alone, unprotected, static, managed}
	flag.Func("ways", "what is measured in turn: some of alone, unprotected, static, elastic, shared, reported and pinned, separated by commas", o.setWays)
	flag.IntVar(&o.rounds, "rounds", 9, "rounds of all four ways")
	flag.DurationVar(&o.phase, "phase", 2*cycle, "how long each way is measured in a round; best some times 2s, after which the requests come as before")
	flag.IntVar(&o.rate, "rate", 370, "requests a second")
	flag.BoolVar(&o.even, "even", false, "send requests at equal distances, and not at random as independent users do")
	flag.IntVar(&o.cost, "cost", 540_000, "turns of a loop that each request makes the service run")
	flag.StringVar(&o.batch, "batch", "--cpu 2 --cpu-method matrixprod; --cache 1; --vm 1 --vm-bytes 128m; --fork 1",
		"arguments of stress-ng, one job each, separated by semicolons")
	flag.Float64Var(&o.static, "static", 0.5, "CPUs for all batch work in the static way")
	set := func(to *cgroups.Set) func(string) error {
		return func(list string) (err error) {
			*to, err = cgroups.ParseSet(list)
			return err
		}
	}
	flag.Func("service-cpus", "the CPUs that the service may use, as 0 or 0-1; by default the first", set(&o.kept))
	flag.Func("client-cpus", "the CPUs that the load generator may use; by default those of the service", set(&o.users))
	flag.Float64Var(&o.share, "share", 1, "share of the CPUs that may be busy in the elastic ways")
	flag.DurationVar(&o.target, "target", 0, "what the service reports as the target of its p99 in the way reported; by default 1.2 times what it was alone first")
	flag.IntVar(&o.hogs, "hog", 0, "instead, have so many memory hogs beside the service, one after the other, in 512 MiB for all")
	flag.StringVar(&o.page, "html", "", "draw the result into this `file`")
	flag.StringVar(&o.trace, "trace", "", "record what the controller saw and did into this `file`, for examples/replay")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := colocate(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "colocate:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func colocate(ctx context.Context, o options) (err error) {
	for _, tool := range []string{"redis-server", "stress-ng"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: install it, or run make colocate", err)
		}
	}
	if err := yield(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "colocate-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	host, err := isolation.Open(ctx, o.config)
	if err != nil {
		return err
	}
	s := &stage{o: o, host: host, socket: filepath.Join(dir, "redis"), dir: dir, arrived: make(chan struct{}, 1)}
	defer func() {
		after := context.WithoutCancel(ctx)
		err = errors.Join(err, s.clear(after), host.Remove(after), host.Close())
	}()
	if err := s.clear(ctx); err != nil { // what an interrupted run left
		return err
	}
	if err := s.place(); err != nil {
		return err
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	if o.hogs > 0 {
		return s.hogs(ctx)
	}
	results, err := s.play(ctx)
	if err != nil {
		return err
	}
	report(os.Stdout, results)
	if o.page == "" {
		return nil
	}
	f, err := os.Create(o.page)
	if err != nil {
		return err
	}
	return errors.Join(draw(f, results), f.Close())
}
