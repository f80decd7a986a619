// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"fmt"
	"math"
)

// Expectation is what has to hold of most rounds.
type Expectation struct {
	Name string
	// Judge says what of a round it is about, such as a ratio, and whether that is as
	// expected.
	Judge func(r Round) (figure float64, holds bool)

	wrong error // in what it was made of
}

// expect is an expectation of a number, which has to be positive.
func expect(name, what string, number float64, judge func(Round) (float64, bool)) Expectation {
	x := Expectation{Name: fmt.Sprintf(name, number), Judge: judge}
	if !(number > 0) || math.IsInf(number, 1) {
		x.wrong = fmt.Errorf("a %s of %v", what, number)
	}
	return x
}

// P99Within expects the victim's 99th percentile beside the antagonists to be at most
// factor times that alone.
func P99Within(factor float64) Expectation { return QuantileWithin(0.99, factor) }

// QuantileWithin expects that of any quantile, 0.5 being the median.
func QuantileWithin(q, factor float64) Expectation {
	x := expect(fmt.Sprintf("p%g within %%gx", 100*q), "factor", factor, func(r Round) (float64, bool) {
		ratio := r.Beside.Quantile(q) / r.Alone.Quantile(q)
		return ratio, ratio <= factor
	})
	if !(q > 0 && q <= 1) {
		x.wrong = errors.Join(x.wrong, fmt.Errorf("a quantile of %v", q))
	}
	return x
}

// RateWithin expects the victim to answer, beside the antagonists, at least part of the
// requests a second that it answers alone: for a victim that does one after the other,
// as fast as it can.
func RateWithin(part float64) Expectation {
	return expect("rate at least %gx", "part", part, func(r Round) (float64, bool) {
		ratio := r.Beside.Rate() / r.Alone.Rate()
		return ratio, ratio >= part
	})
}

// AntagonistsUse expects the antagonists to get at least so many CPUs: to keep them
// from running at all protects the victim, too, and is worth little.
func AntagonistsUse(cpus float64) Expectation {
	return expect("antagonists use at least %g CPUs", "number of CPUs", cpus, func(r Round) (float64, bool) {
		return r.Beside.Antagonists, r.Beside.Antagonists >= cpus
	})
}
