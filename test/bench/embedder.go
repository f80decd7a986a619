// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// initMillis is set by the linker in one build, to show what package
// initialisers of an embedder cost.
var initMillis = "0"

var _ = func() bool {
	ms, _ := strconv.Atoi(initMillis)
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end); {
		continue
	}
	return true
}()

// embedder is the worker that has Caisson in its process.
func embedder(args []string) error {
	flags := flag.NewFlagSet("embedder", flag.ContinueOnError)
	name := flags.String("name", "caisson-bench", "parent group")
	state := flags.String("state", "", "state directory")
	heap := flags.Int("heap", 0, "resident heap in MiB")
	all := flags.Bool("all", false, "all controllers that the machine has")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ballast := resident(*heap)
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: *state, Parent: *name})
	if err != nil {
		return err
	}
	n := 0
	err = serve(func(userns bool) ([]time.Duration, error) {
		n++
		return oneSandbox(ctx, host, sandboxSpec("s"+strconv.Itoa(n), userns, *all))
	})
	ballast[0]++
	if err == nil {
		err = host.Remove(ctx)
	}
	if cerr := host.Close(); err == nil {
		err = cerr
	}
	return err
}

// resident is so much memory, every page of it touched.
func resident(mib int) []byte {
	b := make([]byte, max(1, mib<<20))
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

// limits are those of every contestant.
func limits() cgroups.Resources {
	return cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(0.5)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20)},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(64)},
	}
}

func sandboxSpec(id string, userns, all bool) isolation.Spec {
	spec := isolation.Spec{
		ID:        id,
		Process:   isolation.Process{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}},
		Resources: limits(),
		Namespaces: isolation.Namespaces{
			Network: isolation.NamespaceNew, Cgroup: isolation.NamespaceHost,
		},
	}
	if !all {
		spec.Controllers = cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory, cgroups.ControllerPIDs)
	}
	if userns {
		identity := namespaces.IDMaps{{Inside: 0, Outside: 0, Count: 65536}}
		spec.Namespaces.User = isolation.NamespaceNew
		spec.Namespaces.UIDMap, spec.Namespaces.GIDMap = identity, identity
	}
	return spec
}

// oneSandbox makes, runs and removes a sandbox, and says how long the whole and
// its four parts took.
func oneSandbox(ctx context.Context, host *isolation.Host, spec isolation.Spec) (times []time.Duration, err error) {
	t0 := time.Now()
	s, err := host.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	t1 := time.Now()
	err = s.Start(ctx, os.Stdin, os.Stderr, os.Stderr)
	t2 := time.Now()
	var st isolation.ExitStatus
	if err == nil {
		st, err = s.Wait(ctx)
	}
	t3 := time.Now()
	err = errors.Join(err, s.Destroy(ctx))
	t4 := time.Now()
	if err == nil && (!st.Known || st.Code != 0) {
		err = fmt.Errorf("/bin/true: %s", st)
	}
	return []time.Duration{t4.Sub(t0), t1.Sub(t0), t2.Sub(t1), t3.Sub(t2), t4.Sub(t3)}, err
}
