// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// Lending the machine to batch work, with the scheduler's last word on kills.
func Example_elastic() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	ctl, err := elastic.Start(ctx, host, elastic.Config{
		Policies: elastic.Defaults(),
		Ask: func(c elastic.Correction) elastic.Verdict {
			if c.Rung == elastic.Kill {
				return elastic.Veto("the scheduler moves it instead")
			}
			return elastic.Accept()
		},
		OnDecision: func(d elastic.Decision) { fmt.Println(d.State, d.Correction) },
		OnReport:   func(r elastic.Report) { fmt.Println(r) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ctl.Close()
	offer := ctl.Revocable()
	fmt.Printf("%.1f CPUs and %d bytes may be lent, with confidence %.2f\n", offer.CPU, offer.Memory, offer.Confidence)
}
