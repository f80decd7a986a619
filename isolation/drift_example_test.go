// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"

	"github.com/caisson-run/caisson/isolation"
)

// An agent that insists on its limits, and tells its scheduler when somebody does
// not give in.
func ExampleDriftPolicy() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent", Drift: isolation.DriftReapply})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	web, err := host.Sandbox(ctx, "web-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for ev, err := range web.Watch(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if drift, ok := ev.(isolation.Drift); ok && drift.Did == "given up" {
			fmt.Println("somebody else wants", drift.Knob, "to be", drift.Found)
		}
	}
}
