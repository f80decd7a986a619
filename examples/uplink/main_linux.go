// SPDX-License-Identifier: Apache-2.0

// Uplink puts a service and a batch job that sends all it can behind one slow link, and
// measures what that does to the service: six ways, in turn, several rounds, medians.
//
//	alone        the service has the link to itself
//	unprotected  the batch job beside it
//	queue        the batch job as best effort, under elastic.NetworkGuard, which goes by
//	             what waits and is dropped in the link's queue
//	rate         the same, and the guard knows what the link can carry
//	class        no guard, but packets have the priorities of their sandboxes' classes
//	class+rate   both
//
// The link and the machine with it are made for this, of network namespaces; nothing
// leaves them. The link is a pair of veths with a token bucket, whose queue is what the
// kernel gives to hardware, pfifo_fast, with 100 ms in each of its bands.
// The load is open: a request is sent when it is due, and its latency counts from then.
//
// It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/caisson-run/caisson/isolation"
)

type options struct {
	config isolation.Config
	rate   uint64 // of the link, in bits a second
	phase  time.Duration
	rounds int
	trace  string
}

func main() {
	if len(os.Args) > 1 {
		if run := map[string]func() error{serveCommand: serve, sendCommand: send}[os.Args[1]]; run != nil {
			exit(run())
		}
	}
	var o options
	var mbit uint64
	flag.StringVar(&o.config.Root, "root", "/run/caisson-uplink", "state `directory`")
	flag.StringVar(&o.config.Parent, "parent", "caisson-uplink", "cgroup above the sandboxes")
	flag.Uint64Var(&mbit, "mbit", 40, "what the link can carry, in Mbit/s")
	flag.DurationVar(&o.phase, "phase", 10*time.Second, "how long each way is measured in a round")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of all ways")
	flag.StringVar(&o.trace, "trace", "", "record what the controller saw and did into files of this `name`, with the way behind a dot, for examples/replay")
	flag.Parse()
	o.rate = mbit * 1e6
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(uplink(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "uplink:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	os.Exit(0)
}

// uplink plays all ways and prints what came of them.
func uplink(ctx context.Context, o options) (err error) {
	s, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	results := make(map[way][]outcome)
	for round := range o.rounds {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			r, err := s.measure(ctx, w)
			if err != nil {
				return fmt.Errorf("%s: %w", w, err)
			}
			results[w] = append(results[w], r)
			fmt.Printf("round %d  %-11s p50 %7.2f  p99 %7.2f ms, %d answers  batch %.1f Mbit/s, service %.1f\n",
				round+1, w, r.p50, r.p99, r.answers, r.batch, r.service)
		}
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tP50 MS\tP99 MS\tBATCH MBIT/S\tOF WHAT IS LEFT\t")
	for _, w := range ways {
		median := func(of func(outcome) float64) float64 {
			var list []float64
			for _, r := range results[w] {
				list = append(list, of(r))
			}
			slices.Sort(list)
			return list[len(list)/2]
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.1f\t%.0f%%\t\n", w, median(func(r outcome) float64 { return r.p50 }),
			median(func(r outcome) float64 { return r.p99 }), median(func(r outcome) float64 { return r.batch }),
			100*median(func(r outcome) float64 { return r.batch / (float64(o.rate)/1e6 - r.service) }))
	}
	return t.Flush()
}
