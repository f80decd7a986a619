// SPDX-License-Identifier: Apache-2.0

package elastic_test

import (
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// A batch job sends all it can over a link of 1 Gbit/s, of which a service uses a
// part: the guard leaves the job the rest, less a tenth of what the service uses.
func ExampleNetworkGuard() {
	sends := func(bits float64) *elastic.NetworkUse {
		return &elastic.NetworkUse{Links: []elastic.LinkUse{{Link: "eth0", Egress: elastic.Flow{Rate: bits}}}}
	}
	guard := &elastic.NetworkGuard{Egress: 1e9}
	for _, c := range guard.Decide(&elastic.Snapshot{
		Elapsed: time.Second,
		Sandboxes: []elastic.Use{
			{ID: "backup", Class: elastic.BestEffort, Network: sends(350e6)},
			{ID: "web", Class: elastic.LatencyCritical, Network: sends(600e6)},
		},
	}) {
		fmt.Println(c)
		fmt.Println("expects", c.Expect)
	}
	// Output:
	// network-guard: throttle backup: the link carries 1000.0 Mbit/s, others use 600.0 Mbit/s, and 60.0 Mbit/s are kept for them; it moves 350.0 Mbit/s and gets 340.0 Mbit/s, instead of no limit
	// expects network.egress of backup at most 3.74e+08 within 5s
}

// A service works with 3 of the 4 GiB that it has: these are protected.
func ExampleMemoryProtect() {
	protect := &elastic.MemoryProtect{}
	for _, c := range protect.Decide(&elastic.Snapshot{
		Elapsed: time.Second, Machine: elastic.MachineUse{Memory: 16 << 30},
		Sandboxes: []elastic.Use{
			{ID: "web", Class: elastic.LatencyCritical, Memory: 4 << 30, Cold: 1 << 30, MemoryLow: cgroups.Bytes(0)},
		},
	}) {
		fmt.Println(c)
	}
	// Output:
	// memory-protect: throttle web: it works with 3072 of the 4096 MiB that it has: 3072 MiB are protected, instead of 0
}
