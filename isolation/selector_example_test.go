// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"fmt"

	"github.com/caisson-run/caisson/isolation"
)

func ExampleParseSelector() {
	sel, err := isolation.ParseSelector("app=web, tier notin (db, cache), !canary")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sel)
	fmt.Println(sel.Matches(map[string]string{"app": "web", "tier": "front"}))
	fmt.Println(sel.Matches(map[string]string{"app": "web", "canary": "yes"}))
	// Output:
	// app=web,tier notin (db,cache),!canary
	// true
	// false
}
