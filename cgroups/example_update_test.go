// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Resources are plain data: what is not named is left as it is.
func ExampleResources() {
	r := cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.WeightOf(500), Max: cgroups.CPUs(1.5)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(512 << 20), High: cgroups.Max()},
	}
	b, err := json.Marshal(r)
	fmt.Println(string(b), err)
	// Output: {"cpu":{"weight":"500","max":"150ms/100ms"},"memory":{"max":"536870912","high":"max"}} <nil>
}

func ExampleResources_Validate() {
	err := cgroups.Resources{
		CPU:  cgroups.CPU{Max: cgroups.Quota(10*time.Millisecond, 2*time.Second)},
		PIDs: cgroups.PIDs{Max: cgroups.Count(1 << 40)},
	}.Validate()
	fmt.Println(err)
	fmt.Println(errors.Is(err, cgroups.ErrInvalid))
	// Output:
	// cpu.max "10ms/2s": the period is not in 1ms to 1s
	// pids.max "1099511627776": above 4194304, the most that there can be; Max lifts the limit
	// true
}

func ExampleResources_Merge() {
	base := cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(100), Max: cgroups.CPUs(2)}}
	over := cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}}
	fmt.Println(base.Merge(over).CPU.Weight, base.Merge(over).CPU.Max)
	// Output: 100 max
}

// A plan shows each write of an update before it is done, and the update does
// all of them or none.
func ExampleCgroup_Update() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	web, err := root.Open("agent/web-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()

	plan, err := web.Plan(cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.5)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(plan)

	var failed *cgroups.UpdateError
	switch _, err := web.Update(context.Background(), plan.Wanted()); {
	case errors.Is(err, cgroups.ErrInUse):
		fmt.Println("not so little memory:", err)
	case errors.As(err, &failed):
		fmt.Println("all as before, because of", failed.Failed.File, err)
	}
}

// A group that was given more than the one above it has is held to that one's
// limit, without a word from the kernel.
func ExampleCgroup_Explain() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	web, err := root.Open("agent/web-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()

	e, err := web.Explain()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e)
	if memory, ok := e.Of("memory.max"); ok && memory.Excess() > 0 {
		fmt.Println("of the memory asked for,", memory.Excess(), "bytes are not there because of", memory.By)
	}
}

// A pod and its containers change together, or not at all. The order in which
// they are named does not matter.
func ExampleRoot_UpdateAll() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	var groups []cgroups.GroupResources
	for path, cpus := range map[string]float64{"agent/pod": 2, "agent/pod/web": 1.5, "agent/pod/log": 0.5} {
		g, err := root.Open(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer g.Close()
		groups = append(groups, cgroups.GroupResources{Cgroup: g, Resources: cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(cpus)}}})
	}

	_, err = root.UpdateAll(context.Background(), groups)
	var failed *cgroups.UpdateError
	if errors.As(err, &failed) {
		fmt.Println("failed at", failed.Failed.Cgroup, failed.Failed.File, err)
		for _, c := range failed.Left {
			fmt.Println("could not be undone:", c.Path, "holds", c.Now)
		}
	}
}

// Weights of a disk take effect where io.cost is enabled for it.
func ExampleRoot_SetIOCost() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	disk, err := cgroups.ParseDevice("/dev/vda")
	if err != nil {
		fmt.Println(err)
		return
	}
	err = root.SetIOCost(cgroups.IOCost{Device: disk, QoS: cgroups.IOCostQoS{
		Enable: cgroups.On, ReadPercent: cgroups.PercentOf(95), ReadLatency: cgroups.DurationOf(10 * time.Millisecond),
	}})
	if errors.Is(err, cgroups.ErrNotSupported) {
		fmt.Println("no weights on this machine:", err)
	}
}

// How a memory limit comes below what is in use: in steps unless told otherwise.
func ExampleCgroup_UpdateWith() {
	root, err := cgroups.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	batch, err := root.Open("agent/batch-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer batch.Close()

	half := cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(256 << 20)}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := batch.UpdateWith(ctx, half, cgroups.UpdateConfig{
		Guard: cgroups.Guard{Full: 100 * time.Millisecond}, // of each second
	})
	var stopped *cgroups.ShrinkError
	switch {
	case errors.As(err, &stopped):
		fmt.Println("still as before, because of", stopped.Stop, "at", stopped.After)
		// Batch work may be killed.
		_, err = batch.UpdateWith(ctx, half, cgroups.UpdateConfig{Shrink: cgroups.Force})
		fmt.Println(err)
	case err == nil && len(res.Changes) > 0 && res.Changes[0].Shrunk != nil:
		fmt.Println("took", res.Changes[0].Shrunk.Took)
	}
}

// A scheduler that would rather ask somebody else than reclaim.
func ExampleShrink() {
	var policy cgroups.Shrink
	err := policy.UnmarshalText([]byte("refuse"))
	fmt.Println(policy, policy == cgroups.Refuse, err)
	// Output: refuse true <nil>
}
