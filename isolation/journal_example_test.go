// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"

	"github.com/caisson-run/caisson/isolation"
)

// An agent that was restarted reads what has happened to a sandbox, before its time
// too.
func ExampleHost_Journal() {
	host, err := isolation.Open(context.Background(), isolation.Config{Root: "/run/agent", Parent: "agent", Journal: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	for entry, err := range host.Journal() {
		switch {
		case err != nil: // of one line; the others follow
			fmt.Println(err)
		case entry.ID != "web-1":
		case entry.Exit != nil:
			fmt.Println(entry.Time, "the program ended:", entry.Exit)
		default:
			fmt.Println(entry.Time, entry.Event, entry.Reason)
			for _, c := range entry.Changes {
				fmt.Println("  ", c)
			}
		}
	}
}
