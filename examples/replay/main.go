// SPDX-License-Identifier: Apache-2.0

// Replay compares policies on a recording of a real machine: what would each of
// them have done in its place? It prints a table and draws a page of plots.
//
//	replay [-variants FILE] [-html FILE] TRACE
//
// TRACE is what a controller wrote to its Config.Trace. FILE of variants is JSON:
// by the variant's name, by the policy's name, the policy's fields.
//
//	{"bold": {"cpu-suppress": {"Share": 0.9}, "memory-guard": {"NoKill": true}}}
//
// The variant "recorded" is always there: what was decided when it happened.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/caisson-run/caisson/elastic"
)

func main() {
	variants := flag.String("variants", "", "JSON `file` of the policies to compare; without it, the defaults")
	page := flag.String("html", "", "draw plots into this `file`")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: replay [-variants FILE] [-html FILE] TRACE")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := replay(os.Stdout, flag.Arg(0), *variants, *page); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

func replay(out io.Writer, trace, variants, page string) error {
	recorded, err := os.ReadFile(trace)
	if err != nil {
		return err
	}
	sets := map[string]map[string]json.RawMessage{"defaults": {
		"cpu-suppress": nil, "cpu-burst": nil, "memory-protect": nil, "memory-guard": nil, "io-guard": nil,
	}}
	if variants != "" {
		b, err := os.ReadFile(variants)
		if err != nil {
			return err
		}
		sets = nil
		if err := json.Unmarshal(b, &sets); err != nil {
			return fmt.Errorf("%s: %w", variants, err)
		}
	}
	runs := []*run{{name: "recorded"}}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		r, err := newRun(name, sets[name])
		if err != nil {
			return fmt.Errorf("variant %s: %w", name, err)
		}
		runs = append(runs, r)
	}
	for _, r := range runs {
		if err := r.play(bytes.NewReader(recorded)); err != nil {
			return fmt.Errorf("%s: %w", trace, err)
		}
	}
	table(out, runs)
	if page == "" {
		return nil
	}
	f, err := os.Create(page)
	if err != nil {
		return err
	}
	if err := draw(f, runs); err != nil {
		return err
	}
	return f.Close()
}

// newRun makes the policies of one variant.
func newRun(name string, set map[string]json.RawMessage) (*run, error) {
	var policies []elastic.Policy
	for _, which := range slices.Sorted(maps.Keys(set)) {
		var p elastic.Policy
		switch which {
		case "cpu-suppress":
			p = &elastic.CPUSuppress{}
		case "cpu-burst":
			p = &elastic.CPUBurst{}
		case "offload":
			p = &elastic.Offload{}
		case "memory-protect":
			p = &elastic.MemoryProtect{}
		case "memory-guard":
			p = &elastic.MemoryGuard{}
		case "network-guard":
			p = &elastic.NetworkGuard{}
		case "io-guard":
			p = &elastic.IOGuard{}
		default:
			return nil, fmt.Errorf("no policy is called %q", which)
		}
		if fields := set[which]; len(fields) > 0 {
			d := json.NewDecoder(bytes.NewReader(fields))
			d.DisallowUnknownFields()
			if err := d.Decode(p); err != nil {
				return nil, fmt.Errorf("%s: %w", which, err)
			}
		}
		policies = append(policies, p)
	}
	planner, err := elastic.NewPlanner(policies, 0)
	return &run{name: name, planner: planner}, err
}

// table prints what each variant did, and how much it let best effort have.
func table(out io.Writer, runs []*run) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VARIANT\tTHROTTLE\tRELEASE\tRECLAIM\tFREEZE\tKILL\tREFUSED\tBEST EFFORT MAY USE\tAND SEND")
	for _, r := range runs {
		n := func(rung elastic.Rung) int { return r.rungs[rung] }
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", r.name, n(elastic.Throttle), n(elastic.Release),
			n(elastic.Reclaim), n(elastic.Freeze), n(elastic.Kill), r.refused, r.allowance(), r.network())
	}
	w.Flush()
	for _, r := range runs {
		for _, m := range r.marks {
			fmt.Fprintf(out, "%s: at %.0f s %s\n", r.name, m.at, strings.ReplaceAll(m.what, "\n", " "))
		}
	}
}
