// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// command is the worker for runtimes that are programs: a cycle is one "run".
// It is started in a mount namespace of its own.
func command(args []string) error {
	flags := flag.NewFlagSet("command", flag.ContinueOnError)
	cover := flags.String("cover", "", "directory to hide from the runtime")
	root := flags.String("root", "", "the runtime's state")
	bundle := flags.String("bundle", "", "bundle without a user namespace")
	userBundle := flags.String("user-bundle", "", "bundle with one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if *cover != "" {
		if err := unix.Mount("tmpfs", *cover, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", *cover, err)
		}
	}
	runtime, n := flags.Arg(0), 0
	return serve(func(userns bool) ([]time.Duration, error) {
		n++
		id, dir := "bench"+strconv.Itoa(n), *bundle
		if userns {
			dir = *userBundle
		}
		cmd := exec.Command(runtime, "--root", *root, "run", "--bundle", dir, id)
		var said bytes.Buffer
		cmd.Stderr = &said
		begin := time.Now()
		err := cmd.Run()
		took := time.Since(begin)
		if err != nil {
			_ = exec.Command(runtime, "--root", *root, "delete", "--force", id).Run() // what there may be
			return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		}
		return []time.Duration{took}, nil
	})
}
