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
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
)

// Start has the runtime create the container and start it. files become blocking,
// as those of os/exec do. If the context ends first, or the runtime fails in
// whatever way, no process is left and Start may be called again; a runtime writes
// what it has to say then to the container's standard error, too. The group is
// another one then: who holds that of [isolation.Sandbox.Cgroup] has to ask again.
func (d *Driver) Start(ctx context.Context, c *isolation.Container, files []*os.File) error {
	b := boxOf(c)
	if err := b.in(isolation.StateCreated, "its process was started already"); err != nil {
		return err
	}
	for i, f := range files {
		if f == nil && i >= 3 {
			return &isolation.InvalidError{Field: "files", Value: strconv.Itoa(i), Reason: "a runtime passes on descriptors without a gap"}
		}
	}
	// A process that is born in a frozen group does not come to its end.
	if frozen, err := c.Cgroup.Frozen(); frozen {
		return &isolation.StateError{State: isolation.StateCreated, Reason: "it is frozen: thaw it first"}
	} else if err != nil && !errors.Is(err, isolation.ErrNotSupported) {
		return err
	}
	before := b.saved
	now := before
	now.Starting = true
	if err := c.Save(now); err != nil {
		return err
	}
	p, err := d.launch(ctx, c, files)
	if err != nil {
		return errors.Join(err, d.undo(context.WithoutCancel(ctx), c, b, before))
	}
	now.Starting = false
	now.PID, now.Inode, now.Since, now.StartedAt = p.pid, p.inode, p.since, time.Now()
	if err = c.Save(now); err == nil {
		b.mu.Lock()
		b.saved = now
		b.mu.Unlock()
		if err = d.follow(c, b, p); err == nil {
			return nil
		}
	} else {
		err = errors.Join(err, p.pidfd.Close())
	}
	return errors.Join(err, d.undo(context.WithoutCancel(ctx), c, b, before))
}

// launch returns the first process once it runs the program, or is about to.
func (d *Driver) launch(ctx context.Context, c *isolation.Container, files []*os.File) (p process, err error) {
	if err := context.Cause(ctx); err != nil {
		return process{}, err
	}
	d.trees.using.RLock()
	err = d.trees.note(c.Cgroup.Path())
	if err == nil {
		err = d.create(ctx, c, files)
	}
	d.trees.using.RUnlock()
	if err != nil {
		return process{}, err
	}
	pid, err := d.created(c)
	if err != nil {
		return process{}, err
	}
	if p, err = hold(pid); err != nil {
		return process{}, err
	}
	// Into every tree, since runtimes do without some, and under limits that are
	// acknowledged, whatever the runtime made of them. No program runs yet.
	if err = c.Cgroup.Add(ctx, pid); err == nil {
		_, err = c.Cgroup.Update(ctx, c.Spec.Resources)
	}
	if err == nil {
		err = d.start(ctx, c.Spec.ID)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return process{}, errors.Join(err, p.pidfd.Close())
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
		if strings.HasSuffix(strings.TrimSpace(line), "/"+c.Cgroup.Path()) {
			return pid, nil
		}
	}
	return 0, odd(fmt.Errorf("process %d is not in group %s", pid, c.Cgroup.Path()))
}

// undo takes back a start that failed: no process and none of the runtime's state
// is left, and the group is made again. Runtimes remove it when they fail, and in one
// that a crun was killed over, another crun fails (1.8, cgroup v2).
func (d *Driver) undo(ctx context.Context, c *isolation.Container, b *box, before saved) error {
	reap := d.held(c)
	if err := c.Cgroup.Kill(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
		return err
	}
	reap()
	d.forget(ctx, c.Spec.ID)
	if err := os.RemoveAll(d.state(c.Spec.ID)); err != nil {
		return err
	}
	b.remake(true)
	defer b.remake(false)
	if err := c.Cgroup.Destroy(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
		return err
	}
	g, err := d.makeGroup(ctx, c.Spec)
	if err != nil {
		return err
	}
	before.Group = g.ID()
	b.mu.Lock()
	old := c.Cgroup
	c.Cgroup, b.saved = g, before
	b.mu.Unlock()
	if err := old.Close(); err != nil {
		return err
	}
	return errors.Join(b.release(), c.Save(before))
}

// held holds the processes of a group that is about to be killed: those that a
// runtime did not live to wait for are a subreaper's.
func (d *Driver) held(c *isolation.Container) (reap func()) {
	var children []*launch.Child
	if pids, err := c.Cgroup.AllProcs(); err == nil && d.cfg.Subreaper {
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
	b := newBox()
	if ok, err := c.Saved(&b.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", isolation.ErrNotFound))
	}
	if err := d.openGroup(c); err != nil {
		return err
	}
	starting := b.saved.Starting && b.saved.PID == 0
	if c.Cgroup == nil && starting { // the runtime removes it when a start fails
		var err error
		if c.Cgroup, err = d.makeGroup(ctx, c.Spec); err != nil {
			return err
		}
		b.saved.Group = c.Cgroup.ID()
	}
	switch {
	case c.Cgroup == nil:
		return fmt.Errorf("%w: its group is gone", isolation.ErrNotFound)
	case c.Cgroup.ID() != b.saved.Group && !starting:
		err := c.Cgroup.Close()
		c.Cgroup = nil
		return errors.Join(fmt.Errorf("%w: its group was removed and made again", isolation.ErrNotFound), err)
	}
	c.Private = b
	var err error
	switch {
	case starting: // it did not live to say how that went
		b.saved.Starting = false
		err = d.undo(ctx, c, b, b.saved)
	case b.saved.Exit != nil:
		close(b.ended)
	case b.saved.PID != 0:
		err = d.takeOver(c, b)
	}
	if err != nil {
		return errors.Join(err, d.Release(c))
	}
	return nil
}

// takeOver holds the first process, or finds that it has ended.
func (d *Driver) takeOver(c *isolation.Container, b *box) error {
	p, err := hold(b.saved.PID)
	if err == nil && (p.inode != b.saved.Inode || p.since != b.saved.Since) {
		err = errors.Join(os.ErrNotExist, p.pidfd.Close())
	}
	if errors.Is(err, os.ErrNotExist) {
		b.saved.Exit = &isolation.ExitStatus{At: time.Now()}
		close(b.ended)
		return nil
	}
	if err != nil {
		return err
	}
	return d.follow(c, b, p)
}
