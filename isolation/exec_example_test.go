// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// A sandbox with a root of its own, made of two layers, and a second process in
// it.
func ExampleSandbox_Exec() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	box, err := host.Create(ctx, isolation.Spec{
		ID:      "web-1",
		Process: isolation.Process{Args: []string{"/srv/web"}, Reaper: true},
		Root: isolation.Root{
			Layers:  []string{"/images/web", "/images/base"},
			Size:    64 << 20, // what it may write
			Volumes: []isolation.Volume{{Target: "/data", Source: "/srv/data/web-1"}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.Destroy(ctx)
	if err := box.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range box.Spec().Protections() {
		fmt.Println(p)
	}
	check, err := box.Exec(ctx, isolation.Process{Args: []string{"/bin/healthy"}}, nil, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(check.Wait(ctx))
}

// A health probe that has a tenth of a CPU and 32 MiB, and five seconds.
func ExampleSandbox_ExecGroup() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	box, err := host.Create(ctx, isolation.Spec{
		ID:        "web-1",
		Process:   isolation.Process{Args: []string{"/srv/web"}},
		Subgroups: true, // or the probe could have no limits on cgroup v2
	})
	if err == nil {
		err = box.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	probe, err := box.ExecGroup(ctx, isolation.Process{Args: []string{"/bin/healthy"}}, cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(0.1)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(32 << 20)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := probe.Wait(soon); err != nil {
		err = probe.Kill(ctx) // with everything that it started
		fmt.Println("it took too long:", err)
	}
}
