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
	Measured    int    // how many of them could be measured
	Stopped     string // why not all, or not as many as asked for
	First, Last time.Duration
	Heap        int64  // bytes each
	Descriptors [2]int // each, before and after they were measured
	Sweep       time.Duration
	Goroutines  [2]int // without and with them
	Threads     [2]int
	Destroy     time.Duration // each
	Open        time.Duration // of a host that finds all of them
	Raw         time.Duration // reading the cgroup.procs of their groups in every tree
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
	fit := float64(res.Sandboxes)
	if res.Stopped != "" {
		fit = float64(min(res.Sandboxes, max(0, res.Measured)))
	}
	value := func(name, column string, v float64, bars ...bar) *row {
		return &row{Name: name, Values: map[string]float64{column: v}, Bars: bars}
	}
	t := &table{
		Name:    "fleet",
		Title:   fmt.Sprintf("%d idle sandboxes in one agent", res.Sandboxes),
		Columns: []string{"time", "(count)", "ratio x"},
		Rows: []*row{
			value("sandboxes that fit", "(count)", fit, atLeast("sandboxes", fit, float64(o.sandboxes))),
			value("create and start, each of the first tenth", "time", float64(res.First)),
			value("create and start, each of the last tenth", "time", float64(res.Last)),
			value("rate of the last to that of the first", "ratio x", rate, atLeast("ratio x", rate, 0.7)),
			value("heap each, bytes", "(count)", float64(res.Heap), atMost("bytes", float64(res.Heap), 16<<10)),
			value("descriptors each, started", "(count)", float64(res.Descriptors[0])),
			value("descriptors each, measured too", "(count)", float64(res.Descriptors[1])),
			sweepRow(res),
			value("goroutines more", "(count)", float64(res.Goroutines[1]-res.Goroutines[0]),
				atMost("goroutines", float64(res.Goroutines[1]-res.Goroutines[0]), 0)),
			// The runtime makes threads as it pleases; what matters is that they do not grow with the sandboxes.
			value("threads more", "(count)", float64(res.Threads[1]-res.Threads[0]),
				atMost("threads", float64(res.Threads[1]-res.Threads[0]), 4)),
			value("destroy, each", "time", float64(res.Destroy)),
		},
	}
	if res.Raw > 0 {
		ratio := float64(res.Open) / float64(res.Raw)
		t.Rows = append(t.Rows,
			value("reading cgroup.procs of each, in every tree", "time", float64(res.Raw)),
			value("open a host that finds all of them", "time", float64(res.Open)),
			value("open to reading raw", "ratio x", ratio, atMost("ratio x", ratio, 10)))
	}
	if res.Stopped != "" {
		t.Notes = append(t.Notes, "more did not fit: "+res.Stopped)
	}
	return t, nil
}

func sweepRow(res fleetResult) *row {
	r := &row{Name: "one sweep: Stat of all", Values: map[string]float64{}}
	if res.Sweep > 0 {
		r.Values["time"] = float64(res.Sweep)
	}
	return r
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
	cfg := isolation.Config{Root: *state, Parent: *name}
	host, err := isolation.Open(ctx, cfg)
	if err != nil {
		return err
	}
	var res fleetResult
	defer func() {
		if res.Stopped != "" {
			// Without descriptors nothing can be destroyed either. A new host
			// begins with few.
			if err = errors.Join(err, host.Close()); err == nil {
				host, err = isolation.Open(ctx, cfg)
			}
			if err != nil {
				return
			}
		}
		begin, n := time.Now(), 0
		for s := range host.Sandboxes(nil) {
			err = errors.Join(err, s.Destroy(ctx))
			n++
		}
		res.Destroy = time.Since(begin) / time.Duration(max(1, n))
		if err = errors.Join(err, host.Remove(ctx), host.Close()); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(res)
		}
	}()
	// One beforehand, so that what is made once is not counted.
	var st cgroups.Stats
	warm, err := start(ctx, host, "warm", &st)
	if err != nil {
		return err
	}
	if err := warm.Destroy(ctx); err != nil {
		return err
	}
	heap, descriptors := settled(), entries("/proc/self/fd")
	res.Goroutines[0], res.Threads[0] = runtime.NumGoroutine(), entries("/proc/self/task")
	all := make([]*isolation.Sandbox, 0, *n)
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
	res.Descriptors[0] = (entries("/proc/self/fd") - descriptors) / max(1, len(all))
	res.First, res.Last = median(times[:min(tenth, len(times))]), median(times[max(0, len(times)-tenth):])
	if err := sweep(all, &st, &res); err != nil {
		return err
	}
	res.Heap = (settled() - heap) / int64(max(1, len(all)))
	if n := entries("/proc/self/fd"); n > 0 { // with none left, they cannot be counted
		res.Descriptors[1] = (n - descriptors) / max(1, len(all))
	}
	res.Goroutines[1], res.Threads[1] = runtime.NumGoroutine(), entries("/proc/self/task")
	runtime.KeepAlive(all)
	if res.Stopped == "" {
		host, err = reopen(ctx, cfg, host, &res)
	}
	return err
}

// reopen closes the host and opens it again some times, and reads what anybody
// would have to read to find the same processes.
func reopen(ctx context.Context, cfg isolation.Config, host *isolation.Host, res *fleetResult) (*isolation.Host, error) {
	trees := make(map[string]bool)
	for _, c := range host.Root().Controllers().List() {
		if top, _, ok := host.Root().Where(c); ok {
			trees[top] = true
		}
	}
	if top, ok := host.Root().Unified(); ok && !host.Root().Detached() {
		trees[top] = true
	}
	var opens, raws []time.Duration
	for range 5 {
		if err := host.Close(); err != nil {
			return host, err
		}
		begin := time.Now()
		for top := range trees {
			dir := filepath.Join(top, cfg.Parent)
			groups, err := os.ReadDir(dir)
			if errors.Is(err, os.ErrNotExist) {
				continue // they are not under these controllers
			}
			if err != nil {
				return host, err
			}
			for _, g := range groups {
				if !g.IsDir() {
					continue
				}
				if _, err := os.ReadFile(filepath.Join(dir, g.Name(), "cgroup.procs")); err != nil {
					return host, err
				}
			}
		}
		raws = append(raws, time.Since(begin))
		begin = time.Now()
		next, err := isolation.Open(ctx, cfg)
		if err != nil {
			return host, err
		}
		host = next
		opens = append(opens, time.Since(begin))
		if n := len(host.Recovered()); n != res.Sandboxes {
			return host, fmt.Errorf("%d of %d sandboxes were found", n, res.Sandboxes)
		}
	}
	res.Open, res.Raw = median(opens), median(raws)
	return host, nil
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
		for i, s := range all {
			err := s.Stat(st)
			if errors.Is(err, syscall.EMFILE) {
				res.Measured, res.Stopped = i, err.Error()
				return nil
			}
			if err != nil {
				return err
			}
		}
		times = append(times, time.Since(begin))
	}
	res.Measured, res.Sweep = len(all), median(times[1:])
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
