// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// One Stats value serves any number of groups and readings.
func ExampleCgroup_Stat() {
	root, err := cgroups.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer root.Close()
	group, err := root.Open("agent/web-1")
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()

	var s cgroups.Stats
	for range time.Tick(time.Second) {
		if err := group.Stat(&s); errors.Is(err, cgroups.ErrGone) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if used, ok := s.Memory.Current.Value(); ok {
			fmt.Printf("%d of %s bytes, %.2f%% of the time short of CPU\n", used, s.Memory.Max, s.CPUPressure.Some.Avg10)
		}
	}
}

func ExampleReading() {
	var absent cgroups.Reading[uint64]
	zero := cgroups.ReadingOf[uint64](0)
	fmt.Println(absent.IsZero(), zero.IsZero(), zero)
	// Output: true false 0
}

func ExampleTrigger() {
	t := cgroups.Trigger{Stall: 150 * time.Millisecond, Window: time.Second}
	fmt.Println(t)
	t.Window = time.Minute
	fmt.Println(t.Validate())
	// Output:
	// some 150000 1000000
	// trigger window "1m0s": not within 500ms and 10s
}

// A Notifier is a descriptor for the poll loop of the caller.
func ExampleCgroup_OpenEvents() {
	var group *cgroups.Cgroup // from Root.Create or Root.Open
	n, err := group.OpenEvents(cgroups.EventMemory)
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()
	poll(n.FD(), n.PollEvents())
	if err := n.Ack(); err != nil {
		log.Fatal(err)
	}
	var e cgroups.Events
	if err := group.Events(&e); err != nil {
		log.Fatal(err)
	}
	kills, _ := e.Memory.OOMKill.Value()
	fmt.Println(kills, "processes were killed so far")
}

func poll(fd int, events uint32) {}
