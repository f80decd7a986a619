// SPDX-License-Identifier: Apache-2.0

// Vm runs the tests of this module on Debian's kernels under qemu: every
// kernel, cgroup layout and user of the matrix in matrix.go.
//
//	go run ./test/vm                     the whole matrix
//	go run ./test/vm -run 6.1/v2         environments whose name contains 6.1/v2
//	go run ./test/vm -pkgs cgroups       packages whose path contains cgroups
//	go run ./test/vm -run 5.10/v2 -shell a shell on that kernel, tests in /tests
//
// Kernels, and qemu where this machine has none that is new enough, are fetched
// as Debian packages by apt, which checks their signatures, and kept in
// $XDG_CACHE_HOME/caisson; no network is used once they are there. Nothing is
// installed, and root is not needed.
//
// A machine that falls silent or whose qemu dies is started again, twice at
// most, for the test binaries that had not ended; the column RESTARTS counts
// that. Tests that fail run once more when the others are through, with no other
// machine beside theirs: see again.go. The console of the second time is in
// NAME-again.log.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	run, pkgs, env string
	verbose, shell bool
	icount         bool
	parallel       int
	timeout        time.Duration
	cache, work    string
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "", "only environments whose name contains this")
	flag.StringVar(&o.pkgs, "pkgs", "", "only packages whose path contains one of these, comma separated")
	flag.StringVar(&o.env, "env", "", "environment of the tests, NAME=VALUE separated by spaces; TEST_TIMEOUT is for one binary, TEST_RUN a pattern of tests")
	flag.BoolVar(&o.verbose, "v", false, "print the console of each machine as it runs")
	flag.BoolVar(&o.shell, "shell", false, "boot the first environment into a shell instead of the tests")
	flag.BoolVar(&o.icount, "icount", false, "one processor whose clock counts instructions, so that what else the host does is in no measured time")
	flag.IntVar(&o.parallel, "j", 3, "how many machines run at a time")
	flag.DurationVar(&o.timeout, "timeout", 45*time.Minute, "how long one machine may run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run reports whether every environment passed.
func run(ctx context.Context, o options) (ok bool, err error) {
	var envs []environment
	for _, e := range matrix {
		if strings.Contains(e.name(), o.run) {
			envs = append(envs, e)
		}
	}
	if len(envs) == 0 {
		return false, fmt.Errorf("no environment's name contains %q", o.run)
	}
	if o.shell {
		envs = envs[:1]
	}

	user, err := os.UserCacheDir()
	if err != nil {
		return false, err
	}
	o.cache = filepath.Join(user, "caisson")
	if o.work, err = os.MkdirTemp("", "caisson-vm-"); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()

	// Everything that can be missing is found out before the first boot.
	prepared := make(map[string]*machine)
	tests := make(map[string][]testBinary) // by architecture
	for _, e := range envs {
		k := e.kernel
		if tests[k.arch] == nil {
			if tests[k.arch], err = buildTests(ctx, o.work, k.arch, o.pkgs); err != nil {
				return false, err
			}
		}
		if prepared[k.name] == nil {
			if prepared[k.name], err = prepare(ctx, o, k, tests[k.arch]); err != nil {
				return false, fmt.Errorf("kernel %s: %w", k.name, err)
			}
		}
		if slices.ContainsFunc(e.tests(tests[k.arch], o.pkgs != ""), testBinary.needForeign) {
			if err := prepared[k.name].fillForeign(ctx, o.cache, e); err != nil {
				return false, fmt.Errorf("kernel %s: %w", k.name, err)
			}
		}
	}
	envs = slices.DeleteFunc(envs, func(e environment) bool { return len(e.tests(tests[e.kernel.arch], o.pkgs != "")) == 0 })
	if len(envs) == 0 {
		return false, fmt.Errorf("no package with tests contains %q in these environments", o.pkgs)
	}
	if o.shell {
		return true, prepared[envs[0].kernel.name].boot(ctx, o, envs[0], nil, os.Stdout)
	}

	reports := make([]*report, len(envs))
	slots := make(chan struct{}, max(o.parallel, 1))
	var all sync.WaitGroup
	for i, e := range envs {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			reports[i] = prepared[e.kernel.name].test(ctx, o, e)
			fmt.Print(reports[i].details())
		})
	}
	all.Wait()
	again(reports, os.Stdout, func(r *report) { prepared[r.env.kernel.name].run(ctx, o, r) })
	return summary(os.Stdout, reports), ctx.Err()
}
