// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"context"
	"fmt"
	"os"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/supervisor"
)

// The whole program that Config.Supervisor names.
func ExampleMain() {
	os.Exit(supervisor.Main())
}

// An agent that starts a sandbox whose output it goes on reading after a restart, and
// whose exit status it does not miss.
func Example() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{
		Root: "/run/agent", Parent: "agent",
		Supervisor: []string{"/usr/lib/agent/supervisor"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	web, err := host.Create(ctx, isolation.Spec{ID: "web-1", Process: isolation.Process{Args: []string{"/srv/web"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := web.Check(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if status.State == isolation.StateCreated {
		out, w, err := os.Pipe()
		if err != nil {
			fmt.Println(err)
			return
		}
		// Before the start: there is no moment at which only this process has it.
		err = web.Keep(ctx, "stdout", out)
		if err == nil {
			err = web.Start(ctx, nil, w)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = out.Close(), w.Close()
	}
	files, err := web.Kept(ctx, "stdout") // also of an agent that is gone
	if err != nil || len(files) == 0 {
		fmt.Println("the supervisor was lost", err)
		return
	}
	go func() { _, _ = os.Stdout.ReadFrom(files[0]) }()
	fmt.Println(web.Wait(ctx)) // also of a process that has ended meanwhile
}
