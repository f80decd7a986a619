// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"context"
	"fmt"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/oci"
)

// An agent that runs some of its sandboxes by libcontainer.
func ExampleOpen() {
	main := func() error {
		oci.Init() // first of all
		driver, err := oci.Open(oci.Config{Root: "/run/agent/libcontainer"})
		if err != nil {
			return err
		}
		defer driver.Close()
		ctx := context.Background()
		host, err := isolation.Open(ctx, isolation.Config{
			Root: "/run/agent/sandboxes", Parent: "agent",
			Drivers: map[string]isolation.Driver{"oci": driver},
		})
		if err != nil {
			return err
		}
		defer host.Close()
		box, err := host.Create(ctx, isolation.Spec{
			ID: "web-1", Driver: "oci",
			Root:    isolation.Root{Path: "/var/lib/images/web"},
			Process: isolation.Process{Args: []string{"/srv/web"}},
		})
		if err != nil {
			return err
		}
		return box.Start(ctx)
	}
	_ = main

	_, err := oci.Open(oci.Config{Root: "libcontainer"})
	fmt.Println(err)
	// Output: root "libcontainer": not a clean absolute path
}
