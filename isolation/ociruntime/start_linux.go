// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// Start has the runtime create the container and start it. files become blocking,
// as those of os/exec do. If the context ends first, or the runtime fails in
// whatever way, no process is left and Start may be called again; a runtime writes
// what it has to say then to the container's standard error, too. The group is
// another one then: who holds that of [isolation.Sandbox.Cgroup] has to ask again.
func (d *Driver) Start(ctx context.Context, c *isolation.Container, files []*os.File) error {
	for i, f := range files {
		if f == nil && i >= 3 {
			return &isolation.InvalidError{Field: "files", Value: strconv.Itoa(i), Reason: "a runtime passes on descriptors without a gap"}
		}
	}
	b := life.Of(c)
	return b.Start(ctx, c, func() error {
		p, err := d.launch(ctx, c, files)
		if err != nil {
			return err
		}
		return b.Run(c, p, func() error { return nil })
	}, func(ctx context.Context) error { return d.undo(ctx, c) })
}

// launch returns the first process once it runs the program, or is about to.
func (d *Driver) launch(ctx context.Context, c *isolation.Container, files []*os.File) (*life.Process, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	d.trees.Using.RLock()
	err := d.trees.Note(c.GroupPath())
	if err == nil {
		err = d.create(ctx, c, files)
	}
	d.trees.Using.RUnlock()
	if err != nil {
		return nil, err
	}
	pid, err := d.created(c)
	if err != nil {
		return nil, err
	}
	p, err := life.Hold(&d.lives, pid, nil)
	if err != nil {
		return nil, err
	}
	// Into every tree, since runtimes do without some, and under limits that are
	// acknowledged, whatever the runtime made of them. No program runs yet.
	if err = c.Cgroup().Add(ctx, pid); err == nil {
		_, err = c.Cgroup().Update(ctx, c.Spec.Resources)
	}
	if err == nil {
		err = d.start(ctx, c.Spec.ID)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// create has the runtime make the container's first process, which waits.
func (d *Driver) create(ctx context.Context, c *isolation.Container, files []*os.File) error {
	id := c.Spec.ID
	args := []string{"--bundle", d.bundle(id), "--pid-file", d.pid(id)}
	if k := c.Spec.Security.Keyring; k == isolation.Off {
		args = append(args, "--no-new-keyring")
	}
	if len(files) > 3 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(files)-3))
	}
	cmd, err := d.command(ctx, id, "create", args...)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	std := [3]*os.File{null, null, null}
	for i := range std {
		if i < len(files) && files[i] != nil {
			std[i] = files[i]
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std[0], std[1], std[2]
	if len(files) > 3 {
		cmd.ExtraFiles = files[3:]
	}
	return d.run(ctx, id, cmd, "create")
}

// start has the first process execute the program.
func (d *Driver) start(ctx context.Context, id string) error {
	cmd, err := d.command(ctx, id, "start")
	if err != nil {
		return err
	}
	return d.run(ctx, id, cmd, "start")
}

// created is the process that the runtime says it has made, if it is in the
// container's group: any other number is not the container's.
func (d *Driver) created(c *isolation.Container) (pid int, err error) {
	odd := func(err error) error {
		return &RuntimeError{Binary: d.cfg.Binary, Command: "create", Err: fmt.Errorf("its pid file: %w", err)}
	}
	f, err := os.OpenFile(d.pid(c.Spec.ID), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, odd(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return 0, odd(err)
	}
	if pid <= 0 {
		return 0, odd(fmt.Errorf("%d is no pid", pid))
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return 0, odd(err)
	}
	for line := range strings.Lines(string(groups)) {
		if strings.HasSuffix(strings.TrimSpace(line), "/"+c.Cgroup().Path()) {
			return pid, nil
		}
	}
	return 0, odd(fmt.Errorf("process %d is not in group %s", pid, c.Cgroup().Path()))
}

// undo takes back a start that failed: no process and none of the runtime's state
// is left, and the group goes. Runtimes remove it when they fail, and in one that a
// crun was killed over, another crun fails (1.8, cgroup v2).
func (d *Driver) undo(ctx context.Context, c *isolation.Container) error {
	reap := d.held(c)
	if err := life.Kill(ctx, c); err != nil {
		return err
	}
	reap()
	d.forget(ctx, c.Spec.ID)
	if err := os.RemoveAll(d.state(c.Spec.ID)); err != nil {
		return err
	}
	return c.RemoveGroup(ctx)
}

// held holds the processes of a group that is about to be killed: those that a
// runtime did not live to wait for are a subreaper's.
func (d *Driver) held(c *isolation.Container) (reap func()) {
	if c.Cgroup() == nil {
		return func() {}
	}
	var children []*launch.Child
	if pids, err := c.Cgroup().AllProcs(); err == nil && d.cfg.Subreaper {
		for _, pid := range pids {
			if pidfd, err := sys.PidfdOpen(pid); err == nil {
				children = append(children, &launch.Child{PIDFD: pidfd})
			}
		}
	}
	return func() {
		for _, child := range children {
			_, _ = child.Wait() // fails at once for what is nobody's child here
			_ = child.PIDFD.Close()
		}
	}
}

// Recover finds the group and the process of a sandbox that an earlier agent made.
func (d *Driver) Recover(ctx context.Context, c *isolation.Container) error {
	return life.Recover(ctx, &d.lives, c, life.Recovery{
		CutOff: func() bool { return false },
		Again:  func(ctx context.Context) error { return d.undo(ctx, c) },
	})
}
