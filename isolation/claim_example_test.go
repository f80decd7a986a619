// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// A controller squeezes batch work as long as it renews its claim. If it dies, the
// lease ends, and what the scheduler has set holds again.
func ExampleSandbox_Claim() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	batch, err := host.Sandbox(ctx, "batch-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = batch.Claim(ctx, isolation.Claim{
		Owner: "suppress", Priority: 10, Lease: 30 * time.Second,
		Resources: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}},
	})
	var held *isolation.ConflictError
	switch {
	case errors.As(err, &held):
		fmt.Println("not now:", held.Owner, "holds", held.Knob, "until", held.Until)
	case err != nil:
		fmt.Println(err)
	default:
		_, err = batch.Unclaim(ctx, "suppress")
		fmt.Println(err)
	}
}
