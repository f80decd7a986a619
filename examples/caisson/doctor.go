// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
)

// level is how good a finding is for somebody who wants to run sandboxes.
type level string

const (
	ok      level = "ok"
	limited level = "limited" // it works, less well or not everywhere
	missing level = "missing"
)

// finding is one thing that doctor looked at.
type finding struct {
	Name    string `json:"name"`
	Level   level  `json:"level"`
	Found   string `json:"found"`   // what is there
	Follows string `json:"follows"` // what that means for the user, one sentence
}

// report is what doctor prints as JSON. Level is the worst one among what
// sandboxes need; Findings may be worse.
type report struct {
	Level    level     `json:"level"`
	Findings []finding `json:"findings"`
}

// doctor collects findings.
type doctor struct {
	*app
	findings []finding
}

func (d *doctor) add(name string, l level, found, follows string) {
	d.findings = append(d.findings, finding{name, l, found, follows})
}

// either adds a finding that is as it should be, or worse.
func (d *doctor) either(name string, good bool, worse level, found, followsGood, followsWorse string) {
	if good {
		d.add(name, ok, found, followsGood)
		return
	}
	d.add(name, worse, found, followsWorse)
}

func doctorCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) error {
		if len(ids) > 0 {
			return usagef("doctor takes no arguments")
		}
		d := &doctor{app: a}
		d.machine()
		d.privileges()
		usable := d.hierarchies() && d.sandboxes(ctx)
		r := report{Level: ok, Findings: d.findings}
		if !usable {
			r.Level = missing
		}
		for _, f := range d.findings {
			if r.Level == ok && f.Level != ok {
				r.Level = limited
			}
		}
		return a.printReport(r)
	}
}

func (a *app) printReport(r report) error {
	if a.json {
		return a.print(r)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		for i, l := range append(wrap(f.Found), wrap(f.Follows)...) {
			if i == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, f.Name, l)
			} else {
				fmt.Fprintf(t, "\t\t%s\n", l)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "Sandboxes work here with everything."
	switch r.Level {
	case ok:
	case limited:
		verdict = "Sandboxes work here, within the limits above."
	case missing:
		verdict = "Sandboxes do not work here as things are."
	}
	_, err := fmt.Fprintln(a.stdout, verdict)
	return err
}

// wrap breaks a sentence into lines.
func wrap(s string) []string {
	const width = 90
	lines := []string{""}
	for word := range strings.FieldsSeq(s) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
