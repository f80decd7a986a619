// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// ok reports whether every test binary ran to its end for every user and
// nothing went wrong.
func (r *report) ok() bool {
	for _, t := range r.runs {
		if len(t.ended) != len(r.tests) || t.failed > 0 {
			return false
		}
	}
	return len(r.wrongs) == 0
}

// details tells how the environment did, and everything that went wrong.
func (r *report) details() string {
	verdict := "ok"
	if !r.ok() {
		verdict = "FAILED, console in " + r.log
	}
	s := fmt.Sprintf("%s: %s in %.0f s, of which boot %.1f s\n", r.env.name(), verdict, r.total.Seconds(), r.boot.Seconds())
	s += "    slowest:" + r.slowest(4) + "\n"
	wrongs := slices.Clone(r.wrongs)
	for _, f := range r.failures {
		wrongs = append(wrongs, f.String()+" failed:\n"+f.output)
	}
	for _, w := range slices.Concat(r.notes, wrongs) {
		s += "    " + strings.ReplaceAll(w, "\n", "\n        ") + "\n"
	}
	return s
}

// slowest lists the n packages that took longest.
func (r *report) slowest(n int) (list string) {
	pkgs := slices.SortedFunc(maps.Keys(r.seconds), func(a, b string) int {
		return cmp.Or(r.seconds[b]-r.seconds[a], strings.Compare(a, b))
	})
	for _, p := range pkgs[:min(n, len(pkgs))] {
		list += fmt.Sprintf(" %s %d s", p, r.seconds[p])
	}
	return list
}

// summary prints the table and the closing line, and reports whether all is
// well.
func summary(w io.Writer, reports []*report) bool {
	ok := true
	var passed, failed, skipped int
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nKERNEL\tCGROUPS\tUSER\tPASSED\tFAILED\tSKIPPED\tSECONDS\tRESTARTS\tSKIPPED FOR")
	for _, r := range reports {
		for _, user := range users {
			t := r.runs[user]
			passed, failed, skipped = passed+t.passed, failed+t.failed, skipped+t.skipped
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.env.kernel.name, r.env.mode, user,
				t.passed, t.failed, t.skipped, t.seconds, t.restarts, classes(t.classes))
		}
		if !r.ok() {
			ok = false
			// What failed may not have been a test: count it all the same.
			if tests := r.runs["root"].failed + r.runs["user"].failed; tests == 0 {
				failed++
			}
		}
	}
	table.Flush()
	// Once more in short: the end of a log is what is read first, or kept.
	for _, r := range reports {
		for _, f := range r.flakes {
			fmt.Fprintf(w, "\nFLAKED, passed the second time: %s: %v\n%s\n", r.env.name(), f, tail(f.output, 8))
		}
		for _, f := range r.failures {
			fmt.Fprintf(w, "\nFAILED: %s: %v\n%s\n", r.env.name(), f, tail(f.output, 8))
		}
		for _, wrong := range r.wrongs {
			fmt.Fprintf(w, "\nWRONG: %s: %s\n", r.env.name(), tail(wrong, 8))
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return ok
}

func classes(counts map[string]int) string {
	var list []string
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", class, counts[class]))
	}
	return strings.Join(list, ", ")
}
