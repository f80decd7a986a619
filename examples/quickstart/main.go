// SPDX-License-Identifier: Apache-2.0

// Quickstart is Caisson's main job in one program: a service and a batch job
// share a few CPUs, each in a sandbox of its own; the batch job makes the
// service slow; pressure tells of it; the batch job's limits are tightened while
// both run; the service is fast again. Nobody is killed, and nothing is left
// behind.
//
// The work is real: see workload.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// options are for tests and for machines on which the names are taken.
type options struct {
	config isolation.Config
	tick   time.Duration // one line of the table for each sandbox
}

func main() {
	if len(os.Args) > 1 && runWorkload(os.Args[1], os.Args[2:]) {
		return
	}
	var o options
	flag.StringVar(&o.config.Root, "root", "/run/caisson-quickstart", "state directory")
	flag.StringVar(&o.config.Parent, "parent", "caisson-quickstart", "cgroup above the two sandboxes")
	flag.DurationVar(&o.tick, "tick", time.Second, "time from one line of the table to the next")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := quickstart(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// quickstart runs the demonstration between two looks at the machine.
func quickstart(ctx context.Context, o options) error {
	before := look(o)
	running, err := demonstrate(ctx, o)
	alive := running.release()
	if errors.Is(err, isolation.ErrLocked) {
		return err // another one is running: what is there is not ours
	}
	if errors.Is(err, os.ErrPermission) {
		fmt.Println("Making sandboxes needs root (or a cgroup2 directory of your own); without it, this can still show what the machine has:")
		return errors.Join(err, showMachine())
	}
	after := look(o)
	after.namespaces = alive
	return errors.Join(err, printLeftovers(before, running, after))
}

// demonstrate is the story. It returns what was there in the middle of it.
func demonstrate(ctx context.Context, o options) (running inventory, err error) {
	host, err := isolation.Open(ctx, o.config)
	if err != nil {
		return running, err
	}
	defer func() { err = errors.Join(err, leave(ctx, host)) }()
	for _, r := range host.Recovered() {
		fmt.Println("left by an interrupted run:", r)
	}
	if err := destroyAll(ctx, host); err != nil {
		return running, err
	}

	m := lookForShare(host)
	fmt.Printf("%s cgroups; two sandboxes, each in new pid, mount, ipc, uts, network and cgroup namespaces,\n"+
		"share CPU %s and, there, come before other work\n", host.Mode(), m.cpus)
	for _, absent := range m.absent {
		fmt.Println("left out:", absent)
	}

	if err := comeFirst(ctx, host, m); err != nil {
		return running, err
	}

	// The service, alone at first.
	service, err := host.Create(ctx, m.spec("service", o.tick))
	if err != nil {
		return running, err
	}
	table, err := newTable(o.tick)
	if err != nil {
		return running, err
	}
	defer table.close()
	if err := table.start(ctx, service); err != nil {
		return running, err
	}
	fmt.Printf("\nservice runs, pid %d, with %s\n", table.pid(ctx, service), limitsText(service.Spec().Resources))
	table.header()
	if err := table.ticks(ctx, 5, nil); err != nil {
		return running, err
	}
	alone := table.summary()

	// A neighbour that wants all there is, and was given a generous weight.
	spec := m.spec("batch", o.tick)
	if !spec.Resources.CPU.Weight.IsZero() {
		spec.Resources.CPU.Weight = cgroups.WeightOf(300)
	}
	batch, err := host.Create(ctx, spec)
	if err != nil {
		return running, err
	}
	pressure, unwatch := watch(ctx, service)
	defer unwatch()
	if err := table.start(ctx, batch); err != nil {
		return running, err
	}
	fmt.Printf("\nbatch runs, pid %d, with %s\n", table.pid(ctx, batch), limitsText(batch.Spec().Resources))
	table.header()
	crossed := false
	err = table.ticks(ctx, 10, func(n int) (enough bool) {
		select {
		case p := <-pressure:
			crossed = true
			fmt.Printf("  trigger: the service stalled %s of %s for lack of %s (seen by %s)\n",
				p.Stalled.Round(time.Millisecond), p.Span.Round(time.Millisecond), p.Resource, p.Source)
		default:
		}
		return crossed && n >= 4
	})
	if err != nil {
		return running, err
	}
	pressed := table.summary()
	running = look(o)
	running.hold(ctx, service, batch)
	if !crossed {
		fmt.Println("  the trigger was not crossed: this machine has room for both. The batch job is tightened all the same.")
	}

	// Tighten it, while both run.
	plan, err := tighten(batch, m)
	if err != nil {
		return running, err
	}
	fmt.Printf("\nthe batch job is tightened; the plan:\n%s\n", plan)
	begin := time.Now()
	if _, err := batch.Update(ctx, plan.Wanted()); err != nil {
		return running, err
	}
	fmt.Printf("done in %s, while both run\n", time.Since(begin).Round(10*time.Microsecond))
	table.header()
	if err := table.ticks(ctx, 6, nil); err != nil {
		return running, err
	}
	printVerdict(alone, pressed, table.summary())
	return running, nil
}

// watch gives the first time that the service stalls for a fifth of a second
// within a second for lack of CPU. stop ends it, and returns once nothing of it is
// left.
func watch(ctx context.Context, service *isolation.Sandbox) (first <-chan isolation.Pressure, stop func()) {
	found, done := make(chan isolation.Pressure, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		for ev, err := range service.Watch(ctx, elastic.Threshold{
			Resource: cgroups.PressureCPU, Stall: 200 * time.Millisecond, Window: time.Second,
		}) {
			if err != nil {
				if ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "quickstart:", err)
				}
				return
			}
			if p, ok := ev.(isolation.Pressure); ok && p.Rising {
				found <- p
				return
			}
		}
	}()
	return found, func() {
		cancel()
		<-done
	}
}

// leave ends what runs and takes away what Open made, also after an interrupt.
func leave(ctx context.Context, host *isolation.Host) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(destroyAll(ctx, host), host.Remove(ctx), host.Close())
}

func destroyAll(ctx context.Context, host *isolation.Host) error {
	var errs []error
	for sb := range host.Sandboxes(nil) {
		errs = append(errs, sb.Destroy(ctx))
	}
	return errors.Join(errs...)
}
