// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxFlakes is how many tests of a whole run may fail at first. The matrix is
// some twenty thousand tests on emulated processors that share this machine's:
// a delay of seconds hits one now and then. More than that is no accident.
const maxFlakes = 5

// again runs the tests that failed once more, each environment's alone on this
// machine. One that passes is a flake: the summary names it, and it does not
// fail the run. One that fails again has failed, as has a binary that died or
// ran out of time.
func again(reports []*report, w io.Writer, boot func(*report)) {
	var failed int
	for _, r := range reports {
		failed += len(r.failures)
	}
	if failed > maxFlakes {
		return
	}
	for _, r := range reports {
		if len(r.failures) == 0 {
			continue
		}
		second := r.second()
		boot(second)
		fmt.Fprint(w, "once more, what failed in ", second.details())
		r.take(second)
	}
}

// second is the report of the second run of the tests that failed.
func (r *report) second() *report {
	s := newReport(r.env, r.tests, strings.TrimSuffix(r.log, ".log")+"-again.log")
	s.silence = r.silence
	s.only = make(map[string]map[string][]string)
	for _, user := range users {
		s.only[user] = r.runs[user].failures
		for _, b := range r.tests {
			if len(s.only[user][b.pkg]) == 0 {
				s.runs[user].ended[b.pkg] = true
			}
		}
	}
	return s
}

// take takes the results of the second run.
func (r *report) take(s *report) {
	failures := r.failures
	r.failures = nil
	for _, f := range failures {
		name, _, _ := strings.Cut(f.test, "/")
		if len(s.wrongs) > 0 || slices.Contains(s.runs[f.user].failures[f.pkg], name) {
			r.failures = append(r.failures, f)
			continue
		}
		r.flakes = append(r.flakes, f)
		r.runs[f.user].failed--
	}
}
