// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	rounds    int
	limit     time.Duration
	heap      int // MiB
	sandboxes int
	cycles    int
	parallel  int
	quick     bool
	check     bool
	json      bool
	only      string
	rows      string
	wanted    *regexp.Regexp // rows; nil is all
}

// workers are what this program is when it is started as a contestant.
var workers = map[string]func(args []string) error{
	"embedder":  embedder,
	"command":   command,
	"container": container,
	"soak":      soak,
	"fleet":     fleet,
	"pressure":  pressure,
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "worker" {
		if err := workers[os.Args[2]](os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 60, "cycles of each contestant")
	flag.DurationVar(&o.limit, "limit", 2*time.Minute, "when to stop the rounds of the first table")
	flag.IntVar(&o.heap, "heap", 4096, "resident heap, in MiB, of the embedders with a large one; less if the machine has not four times that free")
	flag.IntVar(&o.sandboxes, "sandboxes", 1000, "sandboxes in the last table")
	flag.IntVar(&o.cycles, "cycles", 200, "sandboxes that the soak makes and destroys")
	flag.IntVar(&o.parallel, "parallel", 8, "how many of them at once")
	flag.BoolVar(&o.quick, "quick", false, "only see that everything works: small heaps, few sandboxes")
	flag.BoolVar(&o.check, "check", false, "exit with status 1 if a bar is missed")
	flag.BoolVar(&o.json, "json", false, "print the rows as JSON")
	flag.StringVar(&o.only, "only", "", "one table: cycle, container, exec, stat, update, foreign, fleet, notice, pressure, network or soak")
	flag.StringVar(&o.rows, "rows", "", "only the contestants whose names match this regular expression, where they are many")
	flag.Parse()
	if o.rows != "" {
		var err error
		if o.wanted, err = regexp.Compile(o.rows); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(2)
		}
	}
	if o.quick {
		o.heap, o.sandboxes = min(o.heap, 64), min(o.sandboxes, 50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// wants reports whether a contestant was asked for.
func (o options) wants(name string) bool { return o.wanted == nil || o.wanted.MatchString(name) }

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it makes cgroups and namespaces")
	}
	p, err := newPlace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.remove()) }()

	var tables []*table
	for _, section := range []struct {
		name string
		run  func(context.Context, *place, options) (*table, error)
	}{
		{"cycle", cycleTable}, {"container", containerTable}, {"exec", execTable}, {"stat", statTable}, {"update", updateTable}, {"foreign", commandUpdateTable}, {"fleet", fleetTable}, {"notice", noticeTable}, {"pressure", pressureTable}, {"network", networkTable}, {"soak", soakTable},
	} {
		if o.only != "" && o.only != section.name {
			continue
		}
		t, err := section.run(ctx, p, o)
		if err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
		if !o.json {
			t.print(os.Stdout)
		}
		tables = append(tables, t)
	}
	if o.json {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(tables); err != nil {
			return err
		}
	}
	if missed := missedBars(tables); o.check && missed > 0 {
		return fmt.Errorf("%d bars missed", missed)
	}
	return nil
}
