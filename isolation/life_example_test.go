// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// The whole life of a sandbox: made, started, waited for, and gone without a trace.
func ExampleHost_Create() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	web, err := host.Create(ctx, isolation.Spec{
		ID: "web-1", Class: elastic.LatencyCritical, Labels: map[string]string{"app": "web"},
		Process: isolation.Process{Args: []string{"/srv/web", "--port=80"}, Env: []string{"HOME=/"}},
		Resources: cgroups.Resources{
			CPU:    cgroups.CPU{Max: cgroups.CPUs(1.5)},
			Memory: cgroups.Memory{Max: cgroups.Bytes(512 << 20)},
			PIDs:   cgroups.PIDs{Max: cgroups.Count(200)},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := web.Start(ctx, nil, os.Stdout, os.Stderr); err != nil {
		log.Fatal(errors.Join(err, web.Destroy(ctx)))
	}
	exit, err := web.Wait(ctx)
	fmt.Println(exit, err)
	if err := web.Destroy(ctx); err != nil {
		log.Fatal(err)
	}
}

// An agent was killed and starts again: what it made is there, and what it had only
// half made is not.
func ExampleOpen() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		log.Fatal(err) // such as ErrLocked: the old agent lives
	}
	defer host.Close()
	for _, r := range host.Recovered() {
		fmt.Println(r) // web-1: adopted: it is whole
	}
	for web := range host.Sandboxes(isolation.Select(map[string]string{"app": "web"})) {
		status, err := web.Check(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status.ID, status.State, status.PIDs)
	}
}

// A look at every write before it is done, and then all of them or none.
func ExampleSandbox_Update() {
	ctx := context.Background()
	update := func(web *isolation.Sandbox) error {
		plan, err := web.Plan(cgroups.Resources{
			CPU:    cgroups.CPU{Max: cgroups.CPUs(0.5)},
			Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20)},
		})
		if err != nil {
			return err
		}
		fmt.Println(plan)
		_, err = web.Update(ctx, plan.Wanted())
		var held *isolation.ConflictError
		var shrink *cgroups.ShrinkError
		switch {
		case errors.As(err, &held):
			fmt.Println("somebody else has claimed it:", held)
		case errors.As(err, &shrink):
			fmt.Println("it needs its memory, and keeps all that it had:", shrink)
		case errors.Is(err, isolation.ErrNotSupported):
			fmt.Println("not on this machine:", err)
		}
		return err
	}
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	web, err := host.Sandbox(ctx, "web-1")
	if err == nil {
		err = update(web)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// What one sandbox does not need goes to another: both get their limits, or neither.
func ExampleHost_UpdateAll() {
	move := func(ctx context.Context, host *isolation.Host, from, to *isolation.Sandbox) error {
		memory := func(n uint64) cgroups.Resources {
			return cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(n)}}
		}
		_, err := host.UpdateAll(ctx, []isolation.SandboxResources{
			{Sandbox: from, Resources: memory(256 << 20)},
			{Sandbox: to, Resources: memory(768 << 20)},
		})
		return err // a ShrinkError if from could not do with less: then to has what it had
	}
	_ = move
}

// A scheduler is told early that a sandbox runs short, and of its end.
func ExampleSandbox_Watch() {
	watch := func(ctx context.Context, web *isolation.Sandbox) error {
		for ev, err := range web.Watch(ctx) {
			if err != nil {
				return err
			}
			switch ev := ev.(type) {
			case isolation.Pressure:
				fmt.Println(ev)
				if own, _ := ev.Throttled.Value(); own > 0 {
					fmt.Println("its own cpu.max has a part in it")
				}
			case isolation.OOM, isolation.LimitHit, isolation.Drift, isolation.Lost:
				fmt.Println(ev)
			case isolation.Exited:
				fmt.Println("it is over:", ev.Status)
			}
		}
		return ctx.Err()
	}
	_ = watch
}
