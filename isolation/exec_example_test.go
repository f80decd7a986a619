// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"
	"os"

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
