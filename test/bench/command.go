// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/test/bench/overlay"
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
	lower := flags.String("lower", "", "layer of an overlay to mount at the bundle's rootfs")
	further := flags.Bool("exec", false, "a cycle is one \"exec\" in a container that runs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := overlay.Private(); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if *cover != "" {
		if err := unix.Mount("tmpfs", *cover, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", *cover, err)
		}
	}
	r := ociRuntime{program: flags.Arg(0), root: *root, lower: *lower}
	if *further {
		return r.execs(*userBundle)
	}
	return serve(func(userns bool) ([]time.Duration, error) {
		if userns {
			return r.run(*userBundle)
		}
		return r.run(*bundle)
	})
}

// ociRuntime is a runtime that is a program.
type ociRuntime struct {
	program, root, lower string
	n                    int // containers so far
}

// run runs one container.
func (r *ociRuntime) run(bundle string) ([]time.Duration, error) {
	r.n++
	id := "bench" + strconv.Itoa(r.n)
	begin := time.Now()
	if r.lower != "" {
		if err := overlay.Mount(r.lower, bundle); err != nil {
			return nil, err
		}
	}
	err := r.call("run", "--bundle", bundle, id)
	if r.lower != "" {
		err = errors.Join(err, overlay.Unmount(bundle))
	}
	took := time.Since(begin)
	if err != nil {
		_ = r.call("delete", "--force", id) // what there may be
		return nil, err
	}
	return []time.Duration{took}, nil
}

// execs starts a container, in which each cycle runs another process.
func (r *ociRuntime) execs(bundle string) error {
	const id = "bench"
	if err := overlay.Mount(r.lower, bundle); err != nil {
		return err
	}
	// What it leaves running must not keep a pipe of ours open.
	cmd := exec.Command(r.program, "--root", r.root, "run", "--detach", "--bundle", bundle, id)
	err := cmd.Run()
	if err == nil {
		err = serve(func(bool) ([]time.Duration, error) {
			begin := time.Now()
			err := r.call("exec", id, "/bin/true")
			return []time.Duration{time.Since(begin)}, err
		})
	}
	return errors.Join(err, r.call("delete", "--force", id), overlay.Unmount(bundle))
}

func (r *ociRuntime) call(args ...string) error {
	cmd := exec.Command(r.program, append([]string{"--root", r.root}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}
