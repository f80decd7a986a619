// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A group from its beginning to its end.
func ExampleRoot_Create() {
	root, err := cgroups.Open("") // /sys/fs/cgroup
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	web, err := root.Create("web-1", cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory))
	if err != nil {
		fmt.Println(err) // nothing was made
		return
	}
	defer web.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = web.Add(ctx, 4711) // or web.Join, for a process that is born in the group
	err = errors.Join(err, web.Kill(ctx), web.Remove(ctx))
	fmt.Println(err)
}

// After a restart: what the caller made and wrote down is his again.
func ExampleCgroup_Own() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	web, err := root.Open("web-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()
	labels, err := web.Labels()
	if err != nil || labels["agent"] != "mine" {
		return // somebody else's
	}
	web.Own()
	fmt.Println(web.Remove(context.Background()))
}

// Kill tells what stands in its way.
func ExampleRemainingError() {
	var err error = &cgroups.RemainingError{
		Path:      "web-1",
		Err:       context.DeadlineExceeded,
		Processes: []cgroups.Process{{PID: 4711, Name: "cat", State: "D", Wchan: "folio_wait_bit"}},
	}
	fmt.Println(err)
	var left *cgroups.RemainingError
	if errors.As(err, &left) {
		fmt.Println(left.Processes[0].State == "D", errors.Is(err, context.DeadlineExceeded))
	}
	// Output:
	// web-1: context deadline exceeded; remaining processes: 4711 (cat) D in folio_wait_bit
	// true true
}

func ExampleControllers() {
	set := cgroups.ControllersOf(cgroups.ControllerMemory, cgroups.ControllerCPU)
	fmt.Println(set, set.Has(cgroups.ControllerIO))
	// Output: cpu,memory false
}
