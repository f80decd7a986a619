// SPDX-License-Identifier: Apache-2.0

package elastic_test

import (
	"bytes"
	"fmt"
	"log"
	"time"

	"github.com/caisson-run/caisson/elastic"
)

// A controller with Config.Trace has written down what it saw. What would other
// policies have done? Here the trace has one look, at a service that needs most of
// the machine.
func ExampleReplay() {
	var trace bytes.Buffer // or the file that Config.Trace was
	err := elastic.WriteRecord(&trace, elastic.Record{Snapshot: &elastic.Snapshot{
		At: time.Second, Elapsed: time.Second, Machine: elastic.MachineUse{CPUs: 4, CPU: 3.9},
		Sandboxes: []elastic.Use{
			{ID: "web", Class: elastic.LatencyCritical, CPU: 3},
			{ID: "batch", Class: elastic.BestEffort, CPU: 0.9},
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	planner, err := elastic.NewPlanner([]elastic.Policy{&elastic.CPUSuppress{}}, 0)
	if err != nil {
		log.Fatal(err)
	}
	for look, err := range elastic.Replay(elastic.ReadTrace(&trace), planner) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(look.Snapshot.At, "decided then:", look.Decisions, "now:", look.Planned)
	}
	// Output:
	// 1s decided then: [] now: [cpu-suppress: throttle batch: others use 3.00 of 4 CPUs: 0.20 CPUs for all best effort, 0.20 for this one]
}
