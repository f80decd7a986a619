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
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// fleetResult is what the worker of the last table found.
type fleetResult struct {
	Sandboxes   int
	Stopped     string // why it are not as many as asked for
	First, Last time.Duration
	Heap        int64 // bytes each
	Descriptors int   // each
	Sweep       time.Duration
	Goroutines  [2]int // without and with them
	Threads     [2]int
	Destroy     time.Duration // each
}

// fleetTable is about many sandboxes in one agent, which is a process of its
// own.
func fleetTable(ctx context.Context, p *place, o options) (*table, error) {
	cmd := p.worker("fleet", "-name", p.name+"-fleet", "-state", filepath.Join(p.state, "fleet"), "-n", strconv.Itoa(o.sandboxes))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	var res fleetResult
	if err := json.Unmarshal(out, &res); err != nil {
		return nil, err
	}
	rate := float64(res.First) / float64(max(1, res.Last))
	value := func(name, column string, v float64, bars ...bar) *row {
		return &row{Name: name, Values: map[string]float64{column: v}, Bars: bars}
	}
	t := &table{
		Name:    "fleet",
		Title:   fmt.Sprintf("%d idle sandboxes in one agent", res.Sandboxes),
		Columns: []string{"time", "(count)", "ratio x"},
		Rows: []*row{
			value("create and start, each of the first tenth", "time", float64(res.First)),
			value("create and start, each of the last tenth", "time", float64(res.Last)),
			value("rate of the last to that of the first", "ratio x", rate, atLeast("ratio x", rate, 0.7)),
			value("heap each, bytes", "(count)", float64(res.Heap), atMost("bytes", float64(res.Heap), 16<<10)),
			value("descriptors each", "(count)", float64(res.Descriptors)),
			value("one sweep: Stat of all", "time", float64(res.Sweep)),
			value("goroutines more", "(count)", float64(res.Goroutines[1]-res.Goroutines[0]),
				atMost("goroutines", float64(res.Goroutines[1]-res.Goroutines[0]), 0)),
			// The runtime makes threads as it pleases; what matters is that they do not grow with the sandboxes.
			value("threads more", "(count)", float64(res.Threads[1]-res.Threads[0]),
				atMost("threads", float64(res.Threads[1]-res.Threads[0]), 4)),
			value("destroy, each", "time", float64(res.Destroy)),
		},
	}
	if res.Stopped != "" {
		t.Notes = append(t.Notes, fmt.Sprintf("not %d sandboxes: %s", o.sandboxes, res.Stopped))
	}
	return t, nil
}

// fleet is the agent.
func fleet(args []string) (err error) {
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	name := flags.String("name", "caisson-bench-fleet", "parent group")
	state := flags.String("state", "", "state directory")
	n := flags.Int("n", 1000, "sandboxes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: *state, Parent: *name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Remove(ctx), host.Close()) }()

	// One beforehand, so that what is made once is not counted.
	var st cgroups.Stats
	warm, err := start(ctx, host, "warm", &st)
	if err != nil {
		return err
	}
	if err := warm.Destroy(ctx); err != nil {
		return err
	}
	var res fleetResult
	heap, descriptors := settled(), entries("/proc/self/fd")
	res.Goroutines[0], res.Threads[0] = runtime.NumGoroutine(), entries("/proc/self/task")
	all := make([]*isolation.Sandbox, 0, *n)
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.Destroy(ctx))
		}
	}()
	var times []time.Duration
	for i := range *n {
		begin := time.Now()
		s, err := start(ctx, host, "s"+strconv.Itoa(i), nil)
		if errors.Is(err, syscall.EMFILE) {
			res.Stopped = err.Error()
			break
		}
		if err != nil {
			return err
		}
		times = append(times, time.Since(begin))
		all = append(all, s)
	}
	res.Sandboxes = len(all)
	tenth := max(1, len(times)/10)
	res.First, res.Last = median(times[:tenth]), median(times[len(times)-tenth:])
	if err := sweep(all, &st, &res); err != nil {
		return err
	}
	res.Heap = (settled() - heap) / int64(max(1, len(all)))
	res.Descriptors = (entries("/proc/self/fd") - descriptors) / max(1, len(all))
	res.Goroutines[1], res.Threads[1] = runtime.NumGoroutine(), entries("/proc/self/task")
	begin := time.Now()
	for _, s := range all {
		if err := s.Destroy(ctx); err != nil {
			return err
		}
	}
	res.Destroy = time.Since(begin) / time.Duration(max(1, len(all)))
	return json.NewEncoder(os.Stdout).Encode(res)
}

// start makes an idle sandbox and, if st is given, measures it once.
func start(ctx context.Context, host *isolation.Host, id string, st *cgroups.Stats) (*isolation.Sandbox, error) {
	s, err := host.Create(ctx, idle(id))
	if err != nil {
		return nil, err
	}
	if err = s.Start(ctx); err == nil && st != nil {
		err = s.Stat(st)
	}
	if err != nil {
		return nil, errors.Join(err, s.Destroy(ctx))
	}
	return s, nil
}

// sweep measures all, once to open the files and then some times for the clock.
func sweep(all []*isolation.Sandbox, st *cgroups.Stats, res *fleetResult) error {
	var times []time.Duration
	for range 6 {
		begin := time.Now()
		for _, s := range all {
			err := s.Stat(st)
			if errors.Is(err, syscall.EMFILE) {
				res.Stopped = "they cannot all be measured: " + err.Error()
				return nil
			}
			if err != nil {
				return err
			}
		}
		times = append(times, time.Since(begin))
	}
	res.Sweep = median(times[1:])
	return nil
}

// settled is the heap without garbage.
func settled() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func entries(dir string) int {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(list)
}
