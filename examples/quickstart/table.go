// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// table prints a line per tick and sandbox.
type table struct {
	tick  time.Duration
	begin time.Time
	rows  []*row
	color bool

	out *os.File // what the service writes its figures to
	in  *os.File

	mu     sync.Mutex
	latest figures
	lines  []line // the service's, one a tick
}

// row measures one sandbox.
type row struct {
	sb        *isolation.Sandbox
	now, last cgroups.Stats
	at        time.Time
}

// line is what the summaries are made of.
type line struct {
	figures
	pressure float64 // share of the time that the service stalled for CPU
	neighbor float64 // CPUs that others than the service used
}

func newTable(tick time.Duration) (*table, error) {
	t := &table{tick: tick, begin: time.Now()}
	var err error
	if t.in, t.out, err = os.Pipe(); err != nil {
		return nil, err
	}
	if info, err := os.Stdout.Stat(); err == nil {
		t.color = info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
	}
	go t.listen()
	return t, nil
}

// listen reads the service's figures.
func (t *table) listen() {
	for s := bufio.NewScanner(t.in); s.Scan(); {
		var f figures
		if json.Unmarshal(s.Bytes(), &f) == nil {
			t.mu.Lock()
			t.latest = f
			t.mu.Unlock()
		}
	}
}

func (t *table) close() {
	_ = t.out.Close()
	_ = t.in.Close()
}

// start starts a sandbox and takes it into the table.
func (t *table) start(ctx context.Context, sb *isolation.Sandbox) error {
	if err := sb.Start(ctx, nil, t.out, os.Stderr); err != nil {
		return err
	}
	r := &row{sb: sb, at: time.Now()}
	t.rows = append(t.rows, r)
	return sb.Stat(&r.now)
}

func (t *table) pid(ctx context.Context, sb *isolation.Sandbox) int {
	st, err := sb.Check(ctx)
	if err != nil {
		return 0
	}
	return st.PID
}

// format is a line of strings, the headings included. The colors of a
// percentage do not count, so that is padded before.
const format = "%6s  %-8s %5s %10s %7s %6s %8s %8s %8s %7s %11s %10s %10s%s\n"

func (t *table) header() {
	fmt.Printf(format, "time", "sandbox", "cpu", "throttled", "memory", "tasks", "written",
		"cpu psi", "mem psi", "io psi", "requests", "p50", "p99", "")
}

// ticks prints most lines for each sandbox, or until enough says so.
func (t *table) ticks(ctx context.Context, most int, enough func(n int) bool) error {
	ticker := time.NewTicker(t.tick)
	defer ticker.Stop()
	for n := 1; n <= most; n++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
		if err := t.print(); err != nil {
			return err
		}
		if enough != nil && enough(n) {
			return nil
		}
	}
	return nil
}

// print measures everything and prints it.
func (t *table) print() error {
	t.mu.Lock()
	l := line{figures: t.latest}
	t.mu.Unlock()
	for i, r := range t.rows {
		r.now, r.last = r.last, r.now
		span := time.Since(r.at)
		r.at = time.Now()
		if err := r.sb.Stat(&r.now); err != nil {
			return err
		}
		cpu := grown(r.now.CPU.Usage, r.last.CPU.Usage, span)
		stalled := func(now, last cgroups.Pressure) float64 {
			return float64(now.Some.Total-last.Some.Total) / float64(span)
		}
		cpuStalled := stalled(r.now.CPUPressure, r.last.CPUPressure)
		served, p50, p99, givenUp := "", "", "", ""
		if i == 0 {
			l.pressure = cpuStalled
			if l.P99 == 0 {
				served = "warming up"
			} else {
				served, p50, p99 = fmt.Sprintf("%.0f/s", float64(l.Served)/t.tick.Seconds()), ms(l.P50), ms(l.P99)
			}
			if l.GivenUp > 0 {
				givenUp = fmt.Sprintf("  %d given up", l.GivenUp)
			}
		} else {
			l.neighbor += cpu
		}
		written, _ := r.now.IO.Total.WriteBytes.Value()
		before, _ := r.last.IO.Total.WriteBytes.Value()
		memory, _ := r.now.Memory.Current.Value()
		fmt.Printf(format, fmt.Sprintf("%.0fs", time.Since(t.begin).Seconds()), r.sb.ID(), percent(cpu),
			percent(grown(r.now.CPU.ThrottledTime, r.last.CPU.ThrottledTime, span)),
			size(float64(memory)), r.now.PIDs.Current, size(float64(written-before)/span.Seconds())+"/s",
			t.loud(cpuStalled), percent(stalled(r.now.MemoryPressure, r.last.MemoryPressure)),
			percent(stalled(r.now.IOPressure, r.last.IOPressure)), served, p50, p99, givenUp)
	}
	t.lines = append(t.lines, l)
	return nil
}

// grown is how much of the span a counter of time grew.
func grown(now, last cgroups.Reading[time.Duration], span time.Duration) float64 {
	a, _ := now.Value()
	b, _ := last.Value()
	return float64(a-b) / float64(span)
}

// loud is a percentage that shows on a terminal when it is above the trigger.
func (t *table) loud(v float64) string {
	s := fmt.Sprintf("%8s", percent(v))
	if t.color && v >= 0.2 {
		return "\x1b[1;31m" + s + "\x1b[0m"
	}
	return s
}

func percent(v float64) string { return fmt.Sprintf("%.0f%%", 100*v) }

// ms is a latency.
func ms(d time.Duration) string { return fmt.Sprintf("%.1fms", d.Seconds()*1000) }

// size is an amount of bytes in three digits or so.
func size(n float64) string {
	for _, unit := range []string{"B", "K", "M"} {
		if n < 1024 {
			return strconv.FormatFloat(n, 'f', 0, 64) + unit
		}
		n /= 1024
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + "G"
}

// summary is the service's typical tick of the last three.
func (t *table) summary() line {
	last := t.lines[max(0, len(t.lines)-3):]
	middle := func(of func(line) float64) float64 {
		var v []float64
		for _, l := range last {
			v = append(v, of(l))
		}
		if len(v) == 0 {
			return 0
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return line{
		figures: figures{
			P50: time.Duration(middle(func(l line) float64 { return float64(l.P50) })),
			P99: time.Duration(middle(func(l line) float64 { return float64(l.P99) })),
		},
		pressure: middle(func(l line) float64 { return l.pressure }),
		neighbor: middle(func(l line) float64 { return l.neighbor }),
	}
}

func printVerdict(alone, pressed, relieved line) {
	fmt.Println("\nthe service                   p50        p99   cpu pressure   CPU time of the batch job")
	for _, r := range []struct {
		name string
		line
	}{{"alone", alone}, {"beside the batch job", pressed}, {"after the change", relieved}} {
		fmt.Printf("  %-20s %10s %10s %14s   %s\n", r.name, ms(r.P50), ms(r.P99), percent(r.pressure), percent(r.neighbor))
	}
	if relieved.P99 >= pressed.P99/2 {
		fmt.Println("The service hardly recovered: something else on this machine takes its time.")
		return
	}
	fmt.Printf("The service's p99 went from %s to %s and its CPU pressure from %s to %s; nobody was killed.\n",
		ms(pressed.P99), ms(relieved.P99), percent(pressed.pressure), percent(relieved.pressure))
}
