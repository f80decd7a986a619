// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/caisson-run/caisson/isolation"
)

// journalSize is how many bytes of what has happened are kept.
const journalSize = 1 << 20

func eventsCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) (err error) {
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		for e, err := range host.Journal() {
			if err != nil {
				return err
			}
			if len(ids) > 0 && !slices.Contains(ids, e.ID) {
				continue
			}
			if err := a.printEntry(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// printEntry writes one line, and one more for each limit that was written.
func (a *app) printEntry(e isolation.JournalEntry) error {
	if a.json {
		return a.print(e)
	}
	line := fmt.Sprintf("%s  %s  %s", e.Time.Format("2006-01-02 15:04:05.000"), e.ID, e.Event)
	switch {
	case e.Exit != nil:
		line += ": " + e.Exit.String()
	case e.Reason != "":
		line += ": " + e.Reason
	case len(e.Detail) > 0:
		line += ": " + string(e.Detail)
	}
	for _, c := range e.Changes {
		line += fmt.Sprintf("\n    %s: %s, was %s", c.Knob, c.New, c.Old)
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}
