// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

func execCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var p isolation.Process
	var limits cgroups.Resources
	processFlags(fs, &p)
	limitFlags(fs, &limits)
	group := fs.Bool("group", false, "run it in a group of its own, which ends with it; limits imply that")
	fs.BoolVar(&p.Terminal, "tty", false, "run it on a terminal of its own, behind this one")
	fs.BoolVar(&p.Terminal, "t", false, "--tty")
	return func(ctx context.Context, ids, argv []string) error {
		id, err := one(ids)
		if err != nil {
			return err
		}
		if len(argv) == 0 {
			return usagef("no program; it goes behind --")
		}
		p.Args = argv
		start := func(ctx context.Context, sb *isolation.Sandbox, files ...*os.File) (*isolation.Exec, error) {
			return sb.Exec(ctx, p, files...)
		}
		if *group || !limits.IsZero() {
			start = func(ctx context.Context, sb *isolation.Sandbox, files ...*os.File) (*isolation.Exec, error) {
				return sb.ExecGroup(ctx, p, limits, files...)
			}
		}
		err = a.exec(ctx, id, p.Terminal, start)
		var status workloadStatus
		if err == nil || errors.As(err, &status) {
			return err
		}
		return &runError{runStatus(err), err}
	}
}

// exec runs one more program in a running sandbox.
func (a *app) exec(ctx context.Context, id string, terminal bool,
	run func(context.Context, *isolation.Sandbox, ...*os.File) (*isolation.Exec, error),
) (err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	sb, done, err := a.sandbox(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	var e *isolation.Exec
	start := func(files ...*os.File) (err error) {
		e, err = run(context.WithoutCancel(ctx), sb, files...)
		return err
	}
	screen := func() error { return nil }
	if terminal {
		screen, err = a.onTerminal(start)
	} else {
		err = start(a.stdin, a.stdout, a.stderr)
	}
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				sig, _ := s.(syscall.Signal)
				if err := e.Signal(sig); err != nil && !errors.Is(err, isolation.ErrState) {
					fmt.Fprintln(a.stderr, "caisson: "+oneLine(err))
				}
			case <-ended:
				return
			}
		}
	}()
	err = screen()
	st, werr := e.Wait(ctx)
	if err := errors.Join(err, werr); err != nil {
		return err
	}
	if !st.Known {
		return fmt.Errorf("exec %q: how the program ended is not known", id)
	}
	if st.Code != 0 {
		return workloadStatus(st.Code)
	}
	return nil
}
