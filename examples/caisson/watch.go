// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

func watchCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var thresholds []elastic.Threshold
	fs.Func("pressure", "`cpu|memory|io[.full]=STALL/WINDOW` to tell of, such as cpu=200ms/2s; may be repeated", func(s string) error {
		t, err := parseThreshold(s)
		thresholds = append(thresholds, t)
		return err
	})
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		sb, done, err := a.sandbox(ctx, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		for ev, err := range sb.Watch(ctx, thresholds...) {
			if err != nil {
				return err
			}
			if err := a.printEvent(id, ev); err != nil {
				return err
			}
		}
		return nil
	}
}

// parseThreshold reads "cpu=200ms/2s" and "memory.full=50ms/1s".
func parseThreshold(s string) (t elastic.Threshold, err error) {
	name, times, ok1 := strings.Cut(s, "=")
	stall, window, ok2 := strings.Cut(times, "/")
	t.Stall, err = time.ParseDuration(stall)
	if !ok1 || !ok2 || err != nil {
		return elastic.Threshold{}, errors.New("not RESOURCE=STALL/WINDOW such as cpu=200ms/2s")
	}
	if t.Window, err = time.ParseDuration(window); err != nil {
		return elastic.Threshold{}, err
	}
	name, t.Full = strings.CutSuffix(name, ".full")
	for _, r := range []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO} {
		if r.String() == name {
			t.Resource = r
		}
	}
	if err := t.Validate(); err != nil {
		return elastic.Threshold{}, err
	}
	return t, nil
}
