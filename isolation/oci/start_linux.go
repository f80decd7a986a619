// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/isolation"
)

// Start has libcontainer start its init in the group, holds it, and lets it go on
// to the program.
func (d *Driver) Start(ctx context.Context, c *isolation.Container, files []*os.File) error {
	b := boxOf(c)
	if err := b.in(isolation.StateCreated, "its process was started already"); err != nil {
		return err
	}
	if err := holdsFrozen(c); err != nil {
		return err
	}
	intent := b.saved
	intent.Starting = true
	if err := c.Save(intent); err != nil {
		return err
	}
	err := d.start(ctx, c, b, files)
	if err != nil {
		err = errors.Join(err, d.again(context.WithoutCancel(ctx), c, b))
	}
	return err
}

func (d *Driver) start(ctx context.Context, c *isolation.Container, b *box, files []*os.File) error {
	plan, err := d.convert(c.Spec)
	if err != nil {
		return err
	}
	own, err := newProcess(plan.process)
	if err != nil {
		return err
	}
	own.Init = true
	if b.container == nil {
		if b.container, err = libcontainer.Create(d.cfg.Root, c.Spec.ID, plan.config); err != nil {
			return err
		}
	}
	done, err := descriptors(own, files)
	if err != nil {
		return err
	}
	d.parents.using.RLock()
	defer d.parents.using.RUnlock()
	m, err := d.manager(c.Spec.ID)
	if err == nil {
		err = d.parents.note(d.path(c.Spec.ID), m.GetPaths())
	}
	if err != nil {
		return errors.Join(err, done())
	}
	// libcontainer knows no contexts. Without processes it comes to an end.
	g := c.Cgroup
	stop := context.AfterFunc(ctx, func() { _ = g.Kill(context.WithoutCancel(ctx)) })
	defer stop()
	if err := errors.Join(b.container.Start(own), done()); err != nil {
		return cut(ctx, err)
	}
	pid, err := own.Pid()
	if err != nil {
		return err
	}
	p, err := d.hold(pid, own)
	if err != nil {
		return err
	}
	if err := d.release(ctx, c, b, p); err != nil {
		return cut(ctx, errors.Join(err, p.kill()))
	}
	p.tell(func(st isolation.ExitStatus) { b.exited(c, st) })
	return nil
}

// release writes the process down and has it execute the program.
func (d *Driver) release(ctx context.Context, c *isolation.Container, b *box, p *process) (err error) {
	saved := b.saved
	saved.PID, saved.StartedAt = p.pid, time.Now()
	if saved.Inode, saved.Since, err = linux.Identify(p.pid, p.pidfd.Int()); err != nil {
		return err
	}
	// libcontainer does not know the hierarchy of a detached mount.
	if d.root.Detached() {
		if err := c.Cgroup.Add(ctx, p.pid); err != nil {
			return err
		}
	}
	if err := c.Save(saved); err != nil {
		return err
	}
	if err := openFifo(ctx, filepath.Join(d.dir(c.Spec.ID), fifo), p); err != nil {
		return err
	}
	b.mu.Lock()
	b.saved, b.first = saved, p
	b.mu.Unlock()
	return nil
}

// cut names the end of the context as the cause of what came of it.
func cut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// fifo is the name of libcontainer's, in which its init waits to be let go.
const fifo = "exec.fifo"

// openFifo lets the init go on. libcontainer's own way, Container.Exec, leaves a
// thread in open(2) for ever if the init dies.
func openFifo(ctx context.Context, path string, p *process) error {
	// Opened for both, it waits for nobody; see fifo(7).
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-p.dead:
			_ = f.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	if _, err := f.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("let the init go on: %w", err)
	}
	return os.Remove(path)
}

// again makes the sandbox anew after a start that failed: libcontainer has
// removed its group, and takes a container for started that was once.
func (d *Driver) again(ctx context.Context, c *isolation.Container, b *box) error {
	b.container = nil
	err := d.endGroup(ctx, c)
	if c.Cgroup != nil {
		err = errors.Join(err, c.Cgroup.Close())
	}
	err = errors.Join(err, os.RemoveAll(d.dir(c.Spec.ID)))
	if err == nil {
		err = d.makeGroup(ctx, c)
	}
	if err == nil {
		b.mu.Lock()
		b.saved.Group = c.Cgroup.ID()
		b.mu.Unlock()
		err = c.Save(b.saved)
	}
	return err
}
