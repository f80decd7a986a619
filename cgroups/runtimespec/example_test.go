// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/runtimespec"
)

// What a container engine asks for, in this library's words.
func ExampleFromSpec() {
	shares, limit, swap, swappiness := uint64(1024), int64(64<<20), int64(96<<20), uint64(60)
	r, left, err := runtimespec.FromSpec(&specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: &shares},
		Memory:  &specs.LinuxMemory{Limit: &limit, Swap: &swap, Swappiness: &swappiness},
		Unified: map[string]string{"memory.high": "50331648"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("weight", r.CPU.Weight, "max", r.Memory.Max, "swap", r.Memory.Swap, "high", r.Memory.High)
	fmt.Println("left:", left)
	// Output:
	// weight 100 max 67108864 swap 33554432 high 50331648
	// left: [memory.swappiness 60: only cgroup v1 has it]
}

// What runtimes are to be told.
func ExampleToSpec() {
	spec, _, err := runtimespec.ToSpec(cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(1.5)},
		Memory: cgroups.Memory{Max: cgroups.Max(), High: cgroups.Bytes(1 << 30)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(*spec.CPU.Quota, *spec.CPU.Period, *spec.Memory.Limit, spec.Unified)
	// Output: 150000 100000 -1 map[memory.high:1073741824]
}
