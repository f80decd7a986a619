// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caisson-run/caisson/isolation"
)

// print writes v as one line of JSON.
func (a *app) print(v any) error { return json.NewEncoder(a.stdout).Encode(v) }

func checkCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		status, err := host.Check(ctx, id)
		if err != nil {
			return err
		}
		return a.printStatus(status)
	}
}

func listCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var labels map[string]string
	labelFlag(fs, &labels, "`KEY=VALUE` that the sandboxes must have; may be repeated")
	var selector isolation.Selector
	fs.Func("selector", "`REQUIREMENTS` on the labels of the sandboxes: app=web,tier!=db,zone in (a,b),!canary", func(s string) (err error) {
		selector, err = isolation.ParseSelector(s)
		return err
	})
	return func(ctx context.Context, ids, _ []string) (err error) {
		if len(ids) > 0 {
			return usagef("list takes no ids; check does")
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		list := []isolation.Status{} // [] in JSON, not null
		var errs []error
		for sb := range host.Sandboxes(slices.Concat(isolation.Select(labels), selector)) {
			st, err := sb.Check(ctx)
			switch {
			case errors.Is(err, isolation.ErrNotFound): // destroyed meanwhile
			case err != nil:
				errs = append(errs, err)
			default:
				list = append(list, st)
			}
		}
		for _, r := range host.Recovered() {
			if r.Err != nil {
				errs = append(errs, errors.New(r.String()))
			}
		}
		return errors.Join(append(errs, a.printList(list))...)
	}
}

func destroyCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) (err error) {
		if len(ids) == 0 {
			return usagef("no id")
		}
		for _, id := range ids {
			if err := isolation.ValidateID(id); err != nil {
				return &usageError{err}
			}
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		var errs []error
		for _, id := range ids {
			if err := host.Destroy(ctx, id); err != nil {
				errs = append(errs, err)
				continue
			}
			if a.json {
				errs = append(errs, a.print(destroyed{id, true}))
			}
		}
		return errors.Join(errs...)
	}
}

// cleanCommand undoes what the first invocation made. It is not for times at
// which another one makes a sandbox.
func cleanCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) (err error) {
		if len(ids) > 0 {
			return usagef("clean takes no ids; destroy does")
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		if err = host.Remove(ctx); err == nil && host.firewall != nil {
			err = host.firewall.Delete(ctx)
		}
		return errors.Join(err, host.Close())
	}
}

type destroyed struct {
	ID        string `json:"id"`
	Destroyed bool   `json:"destroyed"`
}

func (a *app) printList(list []isolation.Status) error {
	if a.json {
		return a.print(list)
	}
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tPID\tPROCESSES\tAGE\tLABELS")
	for _, s := range list {
		pid := "-"
		if s.PID != 0 {
			pid = strconv.Itoa(s.PID)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.ID, stateText(s), pid, s.PIDs, age(s.CreatedAt), labelText(s.Labels))
	}
	return t.Flush()
}

func (a *app) printStatus(s isolation.Status) error {
	if a.json {
		return a.print(s)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("id", s.ID)
	row("state", stateText(s))
	if s.PID != 0 {
		row("pid", strconv.Itoa(s.PID))
	}
	row("processes", strconv.Itoa(s.PIDs))
	row("labels", labelText(s.Labels))
	row("cgroup", s.Cgroup)
	row("age", age(s.CreatedAt))
	for _, c := range s.Claims {
		row("claim", c.String())
	}
	for _, d := range s.Drift {
		row("drift", d.Drift.String())
	}
	for _, m := range s.Missing {
		row("missing", m)
	}
	return t.Flush()
}

// stateText is "running", "running, frozen", "running, adopted" or "exited: signal 9".
func stateText(s isolation.Status) string {
	text := string(s.State)
	if s.Exit != nil {
		text += ": " + s.Exit.String()
	}
	if s.Frozen {
		text += ", frozen"
	}
	if s.Adopted {
		text += ", adopted"
	}
	return text
}

func age(since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	return time.Since(since).Round(time.Second).String()
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
