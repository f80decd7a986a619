// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"

	"github.com/caisson-run/caisson/isolation/supervisor"
)

// superviseCommand is the program that --supervise names. It is in no hurry to end,
// and does so by itself.
func superviseCommand(*app, *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(context.Context, []string, []string) error {
		if status := supervisor.Main(); status != 0 {
			return workloadStatus(status)
		}
		return nil
	}
}
