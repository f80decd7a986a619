// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"fmt"
	"log"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/systemd"
	"github.com/caisson-run/caisson/isolation"
)

// An agent gets one unit from systemd, which outlives it, and its host puts all
// sandboxes below the unit's group. Both find again what an earlier process of
// the agent's has left.
func ExampleDelegate() {
	ctx := context.Background()
	unit, err := systemd.Delegate(ctx, systemd.Config{
		Name:      "agent-sandboxes.service",
		Resources: cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(8 << 30)}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer unit.Close()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: unit.Parent()})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	fmt.Println("found again:", host.Recovered())

	// Later: more memory for all sandboxes together.
	err = unit.Update(ctx, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(12 << 30)}})
	if err != nil {
		log.Fatal(err)
	}
}

// The limits of a service that somebody else started last only if systemd sets
// them.
func ExampleOpen() {
	ctx := context.Background()
	unit, err := systemd.Open(ctx, "nginx.service")
	if err != nil {
		log.Fatal(err)
	}
	defer unit.Close()
	if err := unit.Update(ctx, cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(20)}}); err != nil {
		log.Fatal(err)
	}
}
