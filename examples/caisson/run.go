// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
)

// cleanupTime bounds what is done after an interrupt.
const cleanupTime = 30 * time.Second

func runCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	spec := a.startFlags(fs)
	return func(ctx context.Context, ids, argv []string) error {
		if err := a.complete(spec, ids, argv); err != nil {
			return err
		}
		err := a.run(ctx, *spec)
		var status workloadStatus
		if err == nil || errors.As(err, &status) {
			return err
		}
		return &runError{runStatus(err), err}
	}
}

func createCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	spec := a.startFlags(fs)
	log := fs.String("log", "", "`FILE` to append standard output and error to; /dev/null by default")
	keep := fs.Bool("logs", false, "keep standard output and error, rotated, for caisson logs; taken over whenever a caisson runs")
	return func(ctx context.Context, ids, argv []string) error {
		if *keep {
			if *log != "" {
				return usagef("--log and --logs exclude each other")
			}
			spec.Logs = &logs.Config{}
		}
		if err := a.complete(spec, ids, argv); err != nil {
			return err
		}
		return a.create(ctx, *spec, *log)
	}
}

func (a *app) startFlags(fs *flag.FlagSet) *isolation.Spec {
	spec := &isolation.Spec{}
	specFlags(fs, spec)
	fs.BoolVar(&a.masquerade, "masquerade", false, "give what all sandboxes of this --root send to other machines the machine's address, from now on")
	fs.StringVar(&a.bundle, "bundle", "", "`DIR` with a config.json of the OCI runtime specification, which says what the sandbox is; limits and a program can be given besides")
	fs.BoolVar(&a.supervise, "supervise", false, "have a process of caisson's own, one for this --root, be the program's parent, so that check tells on every kernel how it ended")
	limitFlags(fs, &spec.Resources)
	return spec
}

// complete fills in what is not a flag, and refuses what makes no sense before
// the machine is looked at.
func (a *app) complete(spec *isolation.Spec, ids, argv []string) (err error) {
	if spec.ID, err = one(ids); err != nil {
		return err
	}
	if a.bundle != "" {
		if err := a.fromBundle(spec); err != nil {
			return &usageError{err}
		}
	}
	switch {
	case len(argv) > 0:
		spec.Process.Args = argv
	case a.bundle == "":
		return usagef("no program; it goes behind --")
	}
	if err := spec.Validate(); err != nil {
		return &usageError{err}
	}
	a.publish = needsFirewall(spec.Network)
	return nil
}

// start makes a sandbox and starts its process. If that fails, nothing is left.
func (a *app) start(ctx context.Context, host *host, spec isolation.Spec, files ...*os.File) (*isolation.Sandbox, error) {
	// Create would return a sandbox that exists with an equal spec; here that
	// is somebody else's, not to be destroyed if it cannot be started again.
	switch _, err := host.Sandbox(ctx, spec.ID); {
	case err == nil:
		return nil, fmt.Errorf("%q: %w", spec.ID, errExists)
	case !errors.Is(err, isolation.ErrNotFound):
		return nil, err
	}
	sb, err := host.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	// A start that is interrupted kills what may already do its work, so from
	// here on interrupts are the program's.
	err = sb.Start(context.WithoutCancel(ctx), files...)
	switch {
	case err == nil:
		return sb, nil
	case errors.Is(err, isolation.ErrState):
		return nil, err // another invocation was faster with the same spec
	}
	return nil, errors.Join(err, a.destroy(ctx, sb))
}

var errExists = errors.New("there is a sandbox with this id")

// destroy ends a sandbox also after an interrupt.
func (a *app) destroy(ctx context.Context, sb *isolation.Sandbox) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return sb.Destroy(ctx)
}

// runStatus tells failures of run apart in the manner of env(1).
func runStatus(err error) int {
	var (
		path  *fs.PathError
		step  *isolation.StepError
		errno syscall.Errno
	)
	tried := errors.As(err, &path) && path.Op == "exec" || errors.As(err, &step) && strings.HasPrefix(step.Step, "exec")
	switch {
	case tried && errors.Is(err, fs.ErrNotExist):
		return exitRunNotFound
	case tried && errors.As(err, &errno):
		return exitRunPermission
	}
	return exitRunFailed
}

// ran is what run prints as JSON, after what its program printed.
type ran struct {
	ID   string               `json:"id"`
	Exit isolation.ExitStatus `json:"exit"`
}

// run is the life of one sandbox, with the caller's standard streams.
func (a *app) run(ctx context.Context, spec isolation.Spec) (err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)

	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	// Until the sandbox is made, an interrupt ends the making of it.
	making, made := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	sb, err := a.start(making, host, spec, a.stdin, a.stdout, a.stderr)
	made()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	defer close(done)
	go a.forward(ctx, sb, signals, done)
	status, err := sb.Wait(ctx)
	// Destroyed by another invocation, it is gone already, which is fine.
	if err = errors.Join(err, a.destroy(ctx, sb)); err != nil {
		return err
	}
	if a.json {
		if err := a.print(ran{spec.ID, status}); err != nil {
			return err
		}
	}
	if status.OOM {
		fmt.Fprintf(a.stderr, "caisson: run %q: killed for lack of memory\n", spec.ID)
	}
	if !status.Known {
		return fmt.Errorf("run %q: how the program ended is not known", spec.ID)
	}
	if status.Code != 0 {
		return workloadStatus(status.Code)
	}
	return nil
}

// forward passes signals on. The first process of a pid namespace is deaf to
// those that it does not handle, so a second request to end ends the sandbox.
func (a *app) forward(ctx context.Context, sb *isolation.Sandbox, signals <-chan os.Signal, done <-chan struct{}) {
	asked := false
	for {
		var sig syscall.Signal
		select {
		case s := <-signals:
			sig, _ = s.(syscall.Signal)
		case <-done:
			return
		}
		if sig == syscall.SIGINT || sig == syscall.SIGTERM {
			if asked {
				sig = syscall.SIGKILL // with the first process goes its pid namespace
			}
			asked = true
		}
		if err := sb.Signal(ctx, sig); err != nil && !errors.Is(err, isolation.ErrState) {
			fmt.Fprintln(a.stderr, "caisson: "+oneLine(err))
		}
	}
}

// create leaves the sandbox running.
func (a *app) create(ctx context.Context, spec isolation.Spec, log string) (err error) {
	var out *os.File
	if log != "" {
		if out, err = os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
			return err
		}
		defer out.Close()
	}
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	sb, err := a.start(ctx, host, spec, nil, out, out)
	if err != nil {
		return err
	}
	status, err := sb.Check(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	return a.printStatus(status)
}
