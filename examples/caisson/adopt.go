// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"

	"github.com/caisson-run/caisson/isolation"
)

func adoptCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var target isolation.Target
	fs.IntVar(&target.PID, "pid", 0, "`N`, a process of the container")
	fs.StringVar(&target.Cgroup, "cgroup", "", "`PATH` of the container's group, below the top of each tree")
	labelFlag(fs, &target.Labels, "`KEY=VALUE` to find the sandbox by; may be repeated")
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		if (target.PID != 0) == (target.Cgroup != "") {
			return usagef("give either --pid or --cgroup")
		}
		host, err := a.host(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		sb, err := host.Adopt(ctx, id, target)
		if errors.Is(err, isolation.ErrInvalid) {
			return &usageError{err}
		}
		if err != nil {
			return err
		}
		status, err := sb.Check(ctx)
		if err != nil {
			return err
		}
		return a.printStatus(status)
	}
}

// released is what release prints as JSON.
type released struct {
	ID       string `json:"id"`
	Restored bool   `json:"restored"`
}

func releaseCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	restore := fs.Bool("restore", false, "give the container the limits back that it had when it was adopted")
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		limits := isolation.KeepLimits
		if *restore {
			limits = isolation.RestoreLimits
		}
		sb, done, err := a.sandbox(ctx, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		if err := sb.Release(ctx, limits); err != nil {
			return err
		}
		if a.json {
			return a.print(released{id, *restore})
		}
		return nil
	}
}
