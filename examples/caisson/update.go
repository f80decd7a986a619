// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/netns"
)

// updated is what update prints as JSON.
type updated struct {
	ID      string           `json:"id"`
	DryRun  bool             `json:"dryRun"`
	Changes []cgroups.Change `json:"changes"` // in the order in which they are written
}

func updateCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var r cgroups.Resources
	limitFlags(fs, &r)
	var network netns.Bandwidth
	bandwidthFlags(fs, &network, func() {})
	var cfg cgroups.UpdateConfig
	value(fs, "shrink", &cfg.Shrink, "gradual, refuse or force: `POLICY` for a memory limit below what is in use; gradual by default")
	dry := fs.Bool("dry-run", false, "only say what would be written, in order, and why there")
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		links := network != netns.Bandwidth{}
		switch {
		case r.IsZero() && !links:
			return usagef("no limit to change")
		case links && (!r.IsZero() || *dry):
			return usagef("limits of the network are changed alone")
		}
		if err := r.Validate(); err != nil {
			return &usageError{err}
		}
		sb, done, err := a.sandbox(ctx, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		if links {
			if err := sb.UpdateNetwork(ctx, "", network); err != nil {
				return err
			}
			if a.json {
				return a.printChanges(updated{id, false, nil})
			}
			_, err = fmt.Fprintln(a.stdout, "network limits changed")
			return err
		}
		if *dry {
			plan, err := sb.Plan(r)
			if err != nil {
				return err
			}
			return a.printChanges(updated{id, true, plan.Changes})
		}
		result, err := sb.UpdateWith(ctx, r, cfg)
		if err != nil {
			return err
		}
		return a.printChanges(updated{id, false, result.Changes})
	}
}

func (a *app) printChanges(u updated) error {
	if u.Changes == nil {
		u.Changes = []cgroups.Change{}
	}
	if a.json {
		return a.print(u)
	}
	if len(u.Changes) == 0 {
		_, err := fmt.Fprintln(a.stdout, "nothing to change")
		return err
	}
	for i, c := range u.Changes {
		to := c.Now
		if u.DryRun || to == "" {
			to = strings.TrimSpace(c.New)
		}
		fmt.Fprintf(a.stdout, "%d. %s: %q -> %q in %s\n", i+1, c.Knob, c.Old, to, c.Path)
		if c.Why != "" {
			fmt.Fprintf(a.stdout, "   %s\n", c.Why)
		}
		if d := c.Shrunk; d != nil {
			fmt.Fprintf(a.stdout, "   from %d bytes in use to %d, in %d steps and %v\n", d.Before, d.After, d.Steps, d.Took.Round(time.Millisecond))
		}
	}
	return nil
}
