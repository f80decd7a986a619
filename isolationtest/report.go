// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// lead is by how many rounds one side has to be ahead. If what is right shows in three
// rounds of four, a lead of three has odds of 3^3, 27 to 1.
const lead = 3

// Verdict is what became of an expectation.
type Verdict struct {
	Expectation string
	// Figures are those of the rounds, in order.
	Figures []float64
	// Held is in how many of them it held.
	Held int
	// Decided is true once the rounds in which it held and those in which it did
	// not differ by three.
	Decided bool
}

// add takes in a round, unless it is decided.
func (v *Verdict) add(x Expectation, r Round) {
	if v.Decided {
		return
	}
	figure, holds := x.Judge(r)
	v.Figures = append(v.Figures, figure)
	if holds {
		v.Held++
	}
	v.Decided = v.ahead() == lead || v.ahead() == -lead
}

// ahead is by how many rounds more it held than not.
func (v Verdict) ahead() int { return 2*v.Held - len(v.Figures) }

// Holds is true if it is decided, and so.
func (v Verdict) Holds() bool { return v.Decided && v.ahead() > 0 }

// Median is that of the figures.
func (v Verdict) Median() float64 { return median(v.Figures) }

func median(figures []float64) float64 {
	if len(figures) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String is one line: what was expected, whether that holds, and in how many rounds.
func (v Verdict) String() string {
	word := "cannot be told"
	switch {
	case v.Holds():
		word = "holds"
	case v.Decided:
		word = "does not hold"
	}
	return fmt.Sprintf("%s: %s (in %d of %d rounds; median %.2f)", v.Expectation, word, v.Held, len(v.Figures), v.Median())
}

// Report is what came of an experiment.
type Report struct {
	Antagonists string // their IDs
	Rounds      []Round
	Verdicts    []Verdict // one an expectation, in their order

	// Ended is how often an antagonist had been ended by a signal before its time, as
	// by a controller or for want of memory.
	Ended int
}

// decided reports whether more rounds would change nothing.
func (r *Report) decided() bool {
	return !slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return !v.Decided })
}

// String is a table of the rounds, with the verdicts below.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds beside %s\n", len(r.Rounds), r.Antagonists)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\talone: p50\tp99\t1/s\tbeside: p50\tp99\t1/s\ttheir CPUs\t\n")
	for i, round := range r.Rounds {
		fmt.Fprintf(w, "%d", i+1)
		for _, f := range []Figures{round.Alone, round.Beside} {
			fmt.Fprintf(w, "\t%s\t%s\t%.0f", milliseconds(f.Quantile(0.5)), milliseconds(f.Quantile(0.99)), f.Rate())
		}
		fmt.Fprintf(w, "\t%.2f\t\n", round.Beside.Antagonists)
	}
	_ = w.Flush()
	if r.Ended > 0 {
		fmt.Fprintf(&b, "antagonists that were ended by a signal: %d\n", r.Ended)
	}
	for _, v := range r.Verdicts {
		fmt.Fprintln(&b, v)
	}
	return b.String()
}

// milliseconds are easier to compare than a time.Duration's changing units.
func milliseconds(seconds float64) string { return fmt.Sprintf("%.3f ms", 1e3*seconds) }
