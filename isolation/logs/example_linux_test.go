// SPDX-License-Identifier: Apache-2.0

package logs_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/caisson-run/caisson/isolation/logs"
)

// A program that writes to its output goes on doing so while nobody keeps the log,
// and the next keeper has every line.
func Example() {
	dir, err := os.MkdirTemp("", "logs-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keeper, err := logs.OpenKeeper(dir)
	if err != nil {
		log.Fatal(err)
	}
	web, err := keeper.Open("web", logs.Config{MaxSize: 1 << 20, Compress: true})
	if err != nil {
		log.Fatal(err)
	}
	stdout, stderr, err := web.Files() // for the program to start
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(stdout, "listening on :80")
	if err := keeper.Close(); err != nil { // this agent ends
		log.Fatal(err)
	}
	fmt.Fprintln(stderr, "no configuration, using the default")

	keeper, err = logs.OpenKeeper(dir) // the next one
	if err == nil {
		web, err = keeper.Open("web", logs.Config{})
	}
	if err == nil {
		err = web.Finish()
	}
	if err != nil {
		log.Fatal(err)
	}
	for line, err := range logs.Read(filepath.Join(dir, "web"), logs.CRI) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", line.Stream, line.Text)
	}
	if err := errors.Join(stdout.Close(), stderr.Close(), keeper.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// stdout: listening on :80
	// stderr: no configuration, using the default
}
