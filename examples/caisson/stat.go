// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// measured is what stat prints as JSON, one line a sandbox and a measurement.
type measured struct {
	ID    string         `json:"id"`
	At    time.Time      `json:"at"`
	Stats *cgroups.Stats `json:"stats"`
}

func statCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	every := fs.Duration("watch", 0, "measure again each `TIME`, such as 1s, and print what changed since")
	return func(ctx context.Context, ids, _ []string) (err error) {
		if *every != 0 && *every < 10*time.Millisecond {
			return usagef("--watch %s: less than 10ms", *every)
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		var all []*isolation.Sandbox
		for _, id := range ids {
			sb, err := host.Sandbox(ctx, id)
			if err != nil {
				return err
			}
			all = append(all, sb)
		}
		if len(ids) == 0 {
			for sb := range host.Sandboxes(nil) {
				all = append(all, sb)
			}
		}
		return a.measure(ctx, all, *every)
	}
}

// measure prints what the sandboxes use, once or until ctx ends or the last of
// them is gone.
func (a *app) measure(ctx context.Context, all []*isolation.Sandbox, every time.Duration) error {
	meters := make([]*meter, len(all))
	for i, sb := range all {
		meters[i] = &meter{sb: sb}
	}
	for first := true; ; first = false {
		for i := 0; i < len(meters); i++ {
			err := meters[i].read()
			if errors.Is(err, cgroups.ErrGone) {
				if every == 0 || len(meters) == 1 {
					return fmt.Errorf("stat %q: %w", meters[i].sb.ID(), isolation.ErrNotFound)
				}
				meters = append(meters[:i], meters[i+1:]...)
				i--
				continue
			}
			if err != nil {
				return err
			}
			if a.json {
				if err := a.print(measured{meters[i].sb.ID(), meters[i].at, &meters[i].now}); err != nil {
					return err
				}
			}
		}
		if !a.json {
			a.printMeters(meters, every == 0, first)
		}
		if every == 0 || len(meters) == 0 {
			return nil
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
}

// meter measures one sandbox again and again.
type meter struct {
	sb          *isolation.Sandbox
	now, before cgroups.Stats
	at, last    time.Time
}

func (m *meter) read() error {
	m.before, m.now = m.now, m.before
	m.last = m.at
	m.at = time.Now()
	return m.sb.Stat(&m.now)
}

// printMeters prints totals, or what was used a second since the last time.
func (a *app) printMeters(meters []*meter, totals, header bool) {
	const columns = "ID\tCPU\tTHROTTLED\tMEMORY\tLIMIT\tPIDS\tREAD\tWRITTEN\tCPU-PSI\tMEM-PSI\tIO-PSI"
	var w io.Writer = a.stdout
	t := tabwriter.NewWriter(w, 10, 0, 2, ' ', 0)
	if header {
		fmt.Fprintln(t, columns)
	}
	for _, m := range meters {
		var old cgroups.Stats
		span := time.Duration(0)
		if !totals {
			if m.last.IsZero() {
				continue // a rate needs two measurements
			}
			old, span = m.before, m.at.Sub(m.last)
		}
		n := &m.now
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.sb.ID(),
			spent(n.CPU.Usage, old.CPU.Usage, span), spent(n.CPU.ThrottledTime, old.CPU.ThrottledTime, span),
			amount(n.Memory.Current), limit(n.Memory.Max), n.PIDs.Current,
			moved(n.IO.Total.ReadBytes, old.IO.Total.ReadBytes, span), moved(n.IO.Total.WriteBytes, old.IO.Total.WriteBytes, span),
			stalled(n.CPUPressure, old.CPUPressure, span), stalled(n.MemoryPressure, old.MemoryPressure, span),
			stalled(n.IOPressure, old.IOPressure, span))
	}
	_ = t.Flush()
}

// spent is a time, or percent of the span.
func spent(now, before cgroups.Reading[time.Duration], span time.Duration) string {
	v, ok := now.Value()
	if !ok {
		return "-"
	}
	if span == 0 {
		return v.Round(time.Millisecond).String()
	}
	old, _ := before.Value()
	return percent(v-old, span)
}

// stalled is like spent, for the time in which some task stalled.
func stalled(now, before cgroups.Pressure, span time.Duration) string {
	if !now.Some.Present {
		return "-"
	}
	return spent(cgroups.ReadingOf(now.Some.Total), cgroups.ReadingOf(before.Some.Total), span)
}

// moved is an amount of bytes, or bytes a second.
func moved(now, before cgroups.Reading[uint64], span time.Duration) string {
	v, ok := now.Value()
	if !ok {
		return "-"
	}
	if span == 0 {
		return human(v)
	}
	old, _ := before.Value()
	return human(uint64(float64(v-min(old, v))/span.Seconds())) + "/s"
}

func percent(part, whole time.Duration) string {
	return strconv.FormatFloat(100*part.Seconds()/whole.Seconds(), 'f', 1, 64) + "%"
}

func amount(r cgroups.Reading[uint64]) string {
	v, ok := r.Value()
	if !ok {
		return "-"
	}
	return human(v)
}

func limit(l cgroups.Limit) string {
	if v, ok := l.Value(); ok {
		return human(v)
	}
	if l.IsZero() {
		return "-"
	}
	return l.String()
}

// human is an amount of bytes in three digits or so.
func human(n uint64) string {
	v, unit := float64(n), "B"
	for _, next := range []string{"K", "M", "G", "T", "P", "E"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, next
	}
	if unit == "B" || v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64) + unit
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + unit
}
