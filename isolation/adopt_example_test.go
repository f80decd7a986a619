// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"
	"log"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// A database runs in Docker; the agent changes limits that docker update does
// not offer, and gives them back when it is done.
func ExampleHost_Adopt() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	db, err := host.Adopt(ctx, "legacy-db", isolation.PID(4711)) // docker inspect -f '{{.State.Pid}}' db
	if err != nil {
		log.Fatal(err)
	}
	result, err := db.Update(ctx, cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result)
	if err := db.Release(ctx, isolation.RestoreLimits); err != nil {
		log.Fatal(err)
	}
}
