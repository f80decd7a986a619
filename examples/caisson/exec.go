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

	"github.com/caisson-run/caisson/isolation"
)

func execCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	var p isolation.Process
	processFlags(fs, &p)
	return func(ctx context.Context, ids, argv []string) error {
		id, err := one(ids)
		if err != nil {
			return err
		}
		if len(argv) == 0 {
			return usagef("no program; it goes behind --")
		}
		p.Args = argv
		err = a.exec(ctx, id, p)
		var status workloadStatus
		if err == nil || errors.As(err, &status) {
			return err
		}
		return &runError{runStatus(err), err}
	}
}

// exec runs one more program in a running sandbox.
func (a *app) exec(ctx context.Context, id string, p isolation.Process) (err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	sb, done, err := a.sandbox(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	e, err := sb.Exec(context.WithoutCancel(ctx), p, a.stdin, a.stdout, a.stderr)
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
	st, err := e.Wait(ctx)
	if err != nil {
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
