// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table is one comparison.
type table struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Columns []string `json:"columns"` // what Values are called in print
	Rows    []*row   `json:"rows"`
	Notes   []string `json:"notes,omitempty"`
}

// row is one contestant.
type row struct {
	Name   string             `json:"name"`
	Absent string             `json:"absent,omitempty"` // why it did not take part
	Values map[string]float64 `json:"values,omitempty"` // by column; times in nanoseconds
	Bars   []bar              `json:"bars,omitempty"`
}

// bar is what the project asks of itself.
type bar struct {
	What  string  `json:"what"` // "floor x"
	Got   float64 `json:"got"`
	Bound float64 `json:"bound"`
	Least bool    `json:"least,omitzero"` // Bound is the least, not the most
	OK    bool    `json:"ok"`
}

func atMost(what string, got, bound float64) bar {
	return bar{What: what, Got: got, Bound: bound, OK: got <= bound}
}

func atLeast(what string, got, bound float64) bar {
	return bar{What: what, Got: got, Bound: bound, Least: true, OK: got >= bound}
}

func (b bar) String() string {
	word, sign := "ok", "<="
	if !b.OK {
		word = "MISSED"
	}
	if b.Least {
		sign = ">="
	}
	return fmt.Sprintf("%s: %s %.4g %s %.4g", word, b.What, b.Got, sign, b.Bound)
}

func missedBars(tables []*table) (n int) {
	for _, t := range tables {
		for _, r := range t.Rows {
			for _, b := range r.Bars {
				if !b.OK {
					n++
				}
			}
		}
	}
	return n
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", t.Title)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "\t%s\t  bar\n", strings.Join(t.Columns, "\t"))
	for _, r := range t.Rows {
		if r.Absent != "" {
			continue
		}
		cells := []string{r.Name}
		for _, c := range t.Columns {
			v, ok := r.Values[c]
			if !ok {
				cells = append(cells, "-")
				continue
			}
			cells = append(cells, show(c, v))
		}
		var bars []string
		for _, b := range r.Bars {
			bars = append(bars, b.String())
		}
		fmt.Fprintf(tw, "%s\t  %s\n", strings.Join(cells, "\t"), strings.Join(bars, ", "))
	}
	_ = tw.Flush() // as above, there is nobody to tell
	for _, r := range t.Rows {
		if r.Absent != "" {
			fmt.Fprintf(w, "%s: %s\n", r.Name, r.Absent)
		}
	}
	for _, n := range t.Notes {
		fmt.Fprintln(w, n)
	}
}

// show prints a value as its column wants it: ratios end in " x", counts in
// brackets say their unit, and the others are times.
func show(column string, v float64) string {
	switch {
	case strings.HasSuffix(column, " x"):
		return fmt.Sprintf("%.2f", v)
	case strings.HasSuffix(column, ")"):
		return fmt.Sprintf("%.0f", v)
	case v < 1e6:
		return fmt.Sprintf("%.1fus", v/1e3)
	}
	return fmt.Sprintf("%.2fms", v/1e6)
}

// quantile of values, which it sorts. None is 0.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

func median[T cmp.Ordered](values []T) T { return quantile(values, 0.5) }

// spread are the columns of a list of times.
func spread(times []time.Duration) map[string]float64 {
	return map[string]float64{
		"median": float64(median(times)), "p95": float64(quantile(times, 0.95)), "min": float64(quantile(times, 0)),
	}
}
