// SPDX-License-Identifier: Apache-2.0

package cgroupstest_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
)

// What an agent does to a group, without root and without a kernel. In a test,
// pass t instead of nil.
func ExampleNew() {
	fake := cgroupstest.New(nil, cgroupstest.V2)
	root := fake.Root()
	defer root.Close()

	web, err := root.Create("web", cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()
	fake.Start("web")
	fake.SetUsage("web", 300<<20)
	result, err := web.Update(context.Background(), cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(0.5)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(512 << 20)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result)
	fmt.Print(fake.Tree())
	// Output:
	// 1. write "50000 100000" to /sys/fs/cgroup/web/cpu.max, was "max 100000"
	// 2. write "536870912" to /sys/fs/cgroup/web/memory.max, was "max"
	// /
	// 	cgroup.subtree_control: cpu memory
	// web
	// 	cpu.max: 50000 100000
	// 	memory.max: 536870912
	// 	usage: anon 314572800
	// 	processes: 4194305
}

// The second write of an update fails, and everything is as before.
func ExampleFake_Fail() {
	fake := cgroupstest.Parse(nil, cgroupstest.V2, `
web
	cpu.weight: 100
	pids.max: 10
`)
	root := fake.Root()
	defer root.Close()
	web, err := root.Open("web")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()

	before := fake.Tree()
	fake.Fail("*", syscall.EIO).At(2)
	_, err = web.Update(context.Background(), cgroups.Resources{
		CPU: cgroups.CPU{Weight: cgroups.WeightOf(500)}, PIDs: cgroups.PIDs{Max: cgroups.Count(20)},
	})
	fmt.Println(errors.Is(err, syscall.EIO), fake.Tree() == before)
	// Output: true true
}
